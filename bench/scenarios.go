//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

type scenario struct {
	names []string
	run   func(ctx context.Context, b *bench) error
}

// scenarios are run in this order in each round. One may have several names: what
// needs the same clients is measured with them.
func scenarios() []scenario {
	return []scenario{
		{[]string{"idle", "fanout", "bursts", "storm", "resume"}, broadcasts},
		{[]string{"channels"}, channels},
		{[]string{"tls"}, secure},
		{[]string{"ping"}, pings},
		{[]string{"ingest"}, ingest},
	}
}

func scenarioNames() (names []string) {
	for _, s := range scenarios() {
		names = append(names, s.names...)
	}
	return names
}

// everybody is the channel that all clients of a broadcast follow.
const everybody = "public.bench"

// mostPerSecond bounds the messages, not the deliveries, of a load: the broker
// has to store each.
const mostPerSecond = 10_000

// burstOf messages are published at once in bursts.
const burstOf = 5

// broadcasts: one channel that everybody follows.
func broadcasts(ctx context.Context, b *bench) error {
	for _, n := range b.sizes {
		largest := n == b.largest()
		if !largest && !b.wants("fanout", "bursts") {
			continue
		}
		for _, c := range b.turns() {
			err := b.session(ctx, c, setup{}, n, everybody, false, func(v *server, clients *crowd) error {
				arrive := b.connected
				if largest && b.wants("idle") {
					arrive = b.arrive
				}
				if err := arrive(ctx, v, clients, overTCP); err != nil {
					return err
				}
				if b.wants("fanout") {
					if err := b.broadcast(ctx, v, clients, 1); err != nil {
						return err
					}
				}
				if largest && b.wants("fanout") {
					if err := b.profiled(ctx, v, clients); err != nil {
						return err
					}
				}
				if b.wants("bursts") {
					if err := b.broadcast(ctx, v, clients, burstOf); err != nil {
						return err
					}
				}
				if largest && c.reads && b.wants("storm") {
					if err := b.storm(v, clients); err != nil {
						return err
					}
				}
				if largest && c.resumes && b.wants("resume") {
					return b.resume(ctx, v, clients)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// fan is the title of a load that all clients of one channel get.
func fan(clients, burst int) string {
	if burst == 1 {
		return thousands(clients) + " clients, one message at a time" + perMillion
	}
	return fmt.Sprintf("%s clients, bursts of %d messages%s", thousands(clients), burst, perMillion)
}

const (
	perMillion  = ": CPU of a million deliveries"
	userTime    = "… outside the kernel"
	latencies   = "… latency, p50 / p99"
	systemCalls = "… CPU in system calls"
)

// broadcast publishes at the offered rate and measures what the deliveries cost.
func (b *bench) broadcast(ctx context.Context, v *server, clients *crowd, burst int) error {
	to := func(int) string { return everybody }
	if err := b.warm(ctx, clients, load{messages: burst, perSecond: mostPerSecond, burst: burst, channel: to}, int64(burst)); err != nil {
		return err
	}
	messages := max(2, (b.deliver/clients.n+burstOf-1)/burstOf) * burstOf
	return b.deliveries(ctx, v, clients, fan(clients.n, burst), messages*clients.n, int64(messages),
		load{messages: messages, perSecond: b.pace(clients.n), burst: burst, channel: to})
}

// pace is how many messages a second make the offered rate of deliveries.
func (b *bench) pace(clients int) float64 {
	return min(mostPerSecond, float64(b.rate)/float64(clients))
}

// warm sends a little, so that what happens once has happened, and counts from then on.
func (b *bench) warm(ctx context.Context, clients *crowd, l load, each int64) error {
	if _, err := clients.obey(order{Do: "reset"}); err != nil {
		return err
	}
	if err := b.broker.publish(ctx, l); err != nil {
		return err
	}
	if _, err := clients.await(ctx, each); err != nil {
		return err
	}
	_, err := clients.obey(order{Do: "reset"})
	return err
}

// deliveries measures a load of which each client gets so many messages.
func (b *bench) deliveries(ctx context.Context, v *server, clients *crowd, what string, total int, each int64, l load) error {
	var t tally
	used, took, err := b.spent([]*process{v.process}, clients, func() error {
		if err := b.broker.publish(ctx, l); err != nil {
			return err
		}
		var err error
		t, err = clients.await(ctx, each)
		return err
	})
	if err != nil {
		return err
	}
	million := used.per(float64(total) / 1e6)
	f := b.record(v, what, seconds, million.sum())
	if what == fan(clients.n, 1) { // one write for each delivery, as the bare loop has
		f.besideLoop = true
		b.record(v, userTime, seconds, million.user)
	}
	b.record(v, latencies, milliseconds, t.Latency.percentile(0.50)).and(v.of, b.round, t.Latency.percentile(0.99))
	fmt.Fprintf(b.log, "  %-10s %s: %.2f s (%.2f user) per million, %d deliveries in %.1f s\n", v.name, what, million.sum(), million.user, total, took.Seconds())
	return nil
}

// storm takes the network away from all clients; they come back at once.
func (b *bench) storm(v *server, clients *crowd) error {
	var wall time.Duration
	used, _, err := b.spent([]*process{v.process}, clients, func() error {
		if _, err := clients.obey(order{Do: "drop"}); err != nil {
			return err
		}
		var err error
		wall, err = clients.connect("")
		return err
	})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s clients lose their connection and come back at once: CPU per client", thousands(clients.n))
	b.record(v, what, microseconds, used.sum()/float64(clients.n)*1e6)
	b.record(v, "… until all are back", seconds, wall.Seconds())
	return nil
}

// missed is how many messages are stored while everybody is away.
const missed = 20

// resume takes the network away, too, and everybody missed something.
func (b *bench) resume(ctx context.Context, v *server, clients *crowd) error {
	since, err := b.broker.newest(ctx)
	if err != nil {
		return err
	}
	if _, err := clients.obey(order{Do: "drop"}); err != nil {
		return err
	}
	if _, err := clients.obey(order{Do: "reset"}); err != nil {
		return err
	}
	if err := b.broker.publish(ctx, load{messages: missed, perSecond: mostPerSecond, burst: missed, channel: func(int) string { return everybody }}); err != nil {
		return err
	}
	used, wall, err := b.spent([]*process{v.process}, clients, func() error {
		if _, err := clients.connect("&since=" + since); err != nil {
			return err
		}
		_, err := clients.await(ctx, missed)
		return err
	})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s clients come back at once and get %d missed messages: CPU per client", thousands(clients.n), missed)
	b.record(v, what, microseconds, used.sum()/float64(clients.n)*1e6)
	b.record(v, "… until all have them", seconds, wall.Seconds())
	return nil
}

// channelsShare: a message to one client costs several times a delivery, and the
// broker as much again, so one in so many of the deliveries of a broadcast will do.
const channelsShare = 5

// channels: each client follows a channel of its own.
func channels(ctx context.Context, b *bench) error {
	n := b.largest()
	l := load{messages: n, perSecond: mostPerSecond, burst: 1, channel: func(i int) string { return fmt.Sprintf("public.u%05d", i%n) }}
	for _, c := range b.turns() {
		err := b.session(ctx, c, setup{}, n, "public.u{n}", false, func(v *server, clients *crowd) error {
			if _, err := clients.connect(""); err != nil {
				return err
			}
			if err := b.warm(ctx, clients, l, 1); err != nil {
				return err
			}
			each := max(1, b.deliver/n/channelsShare)
			l := l
			l.messages = each * n
			return b.deliveries(ctx, v, clients, fmt.Sprintf("%s channels of one client each%s", thousands(n), perMillion), each*n, int64(each), l)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// record notes a figure of this round. A title that begins with … belongs to the one before it.
func (b *bench) record(v *server, what string, unit unit, value float64) *figure {
	return b.result.record(what, unit, v.of, b.round, value)
}

// thousands writes 10000 as 10,000.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = string(slices.Insert([]byte(s), i, ','))
	}
	return s
}
