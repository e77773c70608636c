//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// manner is how clients come, and what the figures about that are called.
type manner struct {
	tls             bool
	idle, handshake string
}

var (
	overTCP = manner{false, "an idle client, resident memory", "a handshake, CPU"}
	overTLS = manner{true, "an idle client over TLS, resident memory", "a handshake over TLS, CPU"}
)

const (
	liveMemory = "… heap and stacks in use"
	pingTitle  = "a ping and its pong, CPU"
)

// connected lets the clients come, and measures nothing.
func (b *bench) connected(_ context.Context, _ *server, clients *crowd, _ manner) error {
	_, err := clients.connect("")
	return err
}

// arrive lets the clients come at once, and measures what that takes and what they
// cost while they only sit there.
func (b *bench) arrive(ctx context.Context, v *server, clients *crowd, m manner) error {
	if err := b.visit(ctx, v, visitorsFor(clients.n), m); err != nil {
		return err
	}
	live, err := v.live(ctx)
	if err != nil {
		return err
	}
	resident, err := v.settle(ctx, b.settle)
	if err != nil {
		return err
	}
	// What the runtime kept of the visitors is there for the others to take. Left
	// in, it would make them look cheaper than they are.
	kept, err := v.kept(ctx)
	if err != nil {
		return err
	}
	used, took, err := b.spent([]*process{v.process}, clients, func() error {
		_, err := clients.connect("")
		return err
	})
	if err != nil {
		return err
	}
	if err := pause(ctx, b.rest); err != nil { // the storm's garbage is given back at the server's own pace
		return err
	}
	liveThen, err := v.live(ctx)
	if err != nil {
		return err
	}
	residentThen, err := v.settle(ctx, b.settle)
	if err != nil {
		return err
	}
	n := float64(clients.n)
	weight := (float64(residentThen-resident) + kept) / n
	b.record(v, m.idle, kilobytes, weight)
	b.record(v, liveMemory, kilobytes, (liveThen-live)/n)
	b.record(v, m.handshake, microseconds, used.sum()/n*1e6)
	fmt.Fprintf(b.log, "  %-10s %s: %.1f KB (%.1f of it kept before); %s: %.1f µs, %d in %.1f s\n", v.name, m.idle, weight/1e3, kept/n/1e3, m.handshake, used.sum()/n*1e6, clients.n, took.Seconds())
	return nil
}

// visitors is the channel of those who come first, and go.
const visitors = "public.visitors"

// visitorsFor is how many come before n others: enough for every path to have
// been taken many times, and few beside those whose memory is measured.
func visitorsFor(n int) int { return min(300, max(1, n/20)) }

// visit lets some clients come, and go again. The server's code is then in memory,
// its pools and the runtime's tables are there: what it needs once is not charged
// to the clients that are counted.
func (b *bench) visit(ctx context.Context, v *server, n int, m manner) error {
	few, err := b.muster(v.squad(n, visitors, m.tls), false)
	if err != nil {
		return err
	}
	defer few.dismiss()
	if _, err := few.connect(""); err != nil {
		return err
	}
	if _, err := few.obey(order{Do: "drop"}); err != nil {
		return err
	}
	// The bare loop notices when it writes to them. The others need not.
	return b.broker.publish(ctx, load{messages: 1, perSecond: mostPerSecond, burst: 1, channel: func(int) string { return visitors }})
}

// mostSecure and mostPinged are enough clients to measure these, and the
// TLS ones cost their own side far more than the server.
const mostSecure, mostPinged = 2000, 5000

func secure(ctx context.Context, b *bench) error {
	for _, c := range b.turns() {
		if !c.secure {
			continue
		}
		err := b.session(ctx, c, setup{tls: true}, min(mostSecure, b.largest()), everybody, false, func(v *server, clients *crowd) error {
			return b.arrive(ctx, v, clients, overTLS)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func pings(ctx context.Context, b *bench) error {
	for _, c := range b.turns() {
		if !c.reads {
			continue
		}
		err := b.session(ctx, c, setup{ping: b.pingEvery}, min(mostPinged, b.largest()), everybody, true, func(v *server, clients *crowd) error {
			return b.ping(ctx, v, clients)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ping measures what pings and pongs cost, and nothing else: what the process does
// without any client is taken off, and counting begins when the garbage of the
// handshakes is collected and as many pings have come as there are clients.
func (b *bench) ping(ctx context.Context, v *server, clients *crowd) error {
	if _, err := v.live(ctx); err != nil { // which collects garbage
		return err
	}
	servers := []*process{v.process}
	alone, sat, err := b.spent(servers, clients, func() error { return pause(ctx, b.pingEvery) })
	if err != nil {
		return err
	}
	if _, err := clients.connect(""); err != nil {
		return err
	}
	patience := 2 * b.pingEvery
	if _, err := clients.pinged(ctx, int64(clients.n), 3*patience); err != nil {
		return err
	}
	if _, err := v.live(ctx); err != nil {
		return err
	}
	var before, after tally
	used, took, err := b.spent(servers, clients, func() (err error) {
		if before, err = clients.obey(order{Do: "count"}); err != nil {
			return err
		}
		after, err = clients.pinged(ctx, before.Pings+int64(b.pingRounds*clients.n), time.Duration(b.pingRounds+2)*patience)
		return err
	})
	if err != nil {
		return err
	}
	n := float64(after.Pings - before.Pings)
	other := alone.sum() / sat.Seconds() * took.Seconds()
	b.record(v, pingTitle, microseconds, max(0, used.sum()-other)/n*1e6)
	fmt.Fprintf(b.log, "  %-10s %s: %.1f µs of %.0f pings in %.1f s; %.1f µs more is what the process does alone\n", v.name, pingTitle, max(0, used.sum()-other)/n*1e6, n, took.Seconds(), other/n*1e6)
	return nil
}
