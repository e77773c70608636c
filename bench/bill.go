//go:build linux

package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"
)

// share is CPU time of one thing that was measured.
type share struct{ gateways, nats cpu }

func (s share) plus(o share) share { return share{s.gateways.plus(o.gateways), s.nats.plus(o.nats)} }
func (s share) per(n float64) share {
	return share{s.gateways.per(n), s.nats.per(n)}
}

// above is what it took more than sitting there for as long, never less than nothing.
func (s share) above(sitting share, took time.Duration) share {
	rest := func(c, idle cpu) cpu {
		t := took.Seconds()
		return cpu{max(0, c.user-idle.user*t), max(0, c.sys-idle.sys*t)}
	}
	return share{rest(s.gateways, sitting.gateways), rest(s.nats, sitting.nats)}
}

// bill is what a run measured.
type bill struct {
	plan scalePlan
	costs

	without, with memory // the connections
	pair          kernel // what all connections added, both ends
	end           kernel // what the lonely sockets added
	lonely        int
	connect       time.Duration
	processes     int       // of clients
	beats         float64   // heartbeats a second
	handshakes    share     // of all
	sitting       share     // a second
	broadcast     share     // one
	trickle       share     // a message
	last          []float64 // seconds from publisher to the last client, of each broadcast
	foreign       float64   // what other programs took of the machine
}

// markdown is all tables and what must be known about them.
func (b *bill) markdown() string {
	return b.table() + "\n" + b.notes() + "\n\n" + b.coefficients() + "\nAnd what follows for a million:\n\n" + b.forecasts()
}

// table is the bill of this run.
func (b *bill) table() string {
	var t strings.Builder
	n := float64(b.plan.clients)
	fmt.Fprintf(&t, "| %s connections on %d gateways | gateways | kernel, on their behalf | nats-server | together |\n| --- | --- | --- | --- | --- |\n", thousands(b.plan.clients), b.plan.gateways)
	memory := func(what string, gateways, kernel, nats float64) {
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s |\n", what, bytesOf(gateways), bytesOf(kernel), bytesOf(nats), bytesOf(gateways+kernel+nats))
	}
	nats := b.with.natsLive - b.without.natsLive
	memory("memory of one, idle", b.conn, b.costs.kernel, nats/n)
	memory("memory of all", b.conn*n, b.costs.kernel*n, nats)
	time := func(what string, s share) {
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s |\n", what, briefly(s.gateways.user), briefly(s.gateways.sys), briefly(s.nats.sum()), briefly(s.gateways.sum()+s.nats.sum()))
	}
	time(fmt.Sprintf("CPU while all come at once, within %.0f s", b.connect.Seconds()), b.handshakes)
	time(fmt.Sprintf("CPU of a second in which all sit there, with %.0f heartbeats", b.beats), b.sitting)
	time(fmt.Sprintf("CPU of a message that all get, the last one after %.2f s (%.2f–%.2f)", median(b.last), slices.Min(b.last), slices.Max(b.last)), b.broadcast)
	time("CPU of 1,000 messages to one client each", b.trickle.per(1e-3))
	return t.String()
}

// briefly writes CPU time with three digits or so.
func briefly(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.0f ms", v*1e3)
	}
	return seconds(v)
}

// notes say what was measured, and how.
func (b *bill) notes() string {
	var t strings.Builder
	n := float64(b.plan.clients)
	fmt.Fprintf(&t, "`make scale N=%d`, %s: %d processors of %s, %s, all on one machine over loopback, without TLS.", b.plan.clients, time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), machine(), runtime.Version())
	if b.plan.reason != "" {
		fmt.Fprintf(&t, " %s%s.", strings.ToUpper(b.plan.reason[:1]), b.plan.reason[1:])
	}
	fmt.Fprintf(&t, " Gateways as they ship, so at most 2000 connections per address: each client has one of its own in 127.0.0.0/8, and two channels: one that all follow, one of its own. They are held by %d processes. ", b.processes)
	fmt.Fprintf(&t, "Every client was counted to get every message, once. NATS had %d subscriptions without the clients and %d with them; its memory is heap and stacks in use. ", b.without.subscriptions, b.with.subscriptions)
	lonely := float64(b.lonely)
	fmt.Fprintf(&t, "The kernel's memory is the growth of `SUnreclaim` in /proc/meminfo, %s per connection for both ends, less the client's end: %s sockets in an epoll, without any peer, took %s of it each. To that comes what else such a socket has in `Slab`, %s: the inode and the name of its file. ",
		bytesOf(b.pair.pinned/n), thousands(b.lonely), bytesOf(b.end.pinned/lonely), bytesOf((b.end.slab-b.end.pinned)/lonely))
	if foreign := b.pair.sockets - 2*n; math.Abs(foreign) > n/50 {
		fmt.Fprintf(&t, "Do not trust this figure: other programs have %+.0f sockets since. ", foreign)
	}
	if kinds := b.pair.kinds(b.plan.clients); kinds != "" {
		fmt.Fprintf(&t, "Among both ends are %s (/proc/slabinfo). ", kinds)
	}
	fmt.Fprintf(&t, "What waits in sockets (`mem` in /proc/net/sockstat) is not among it, and grew by %s per connection. ", bytesOf(max(0, b.pair.buffers/n)))
	fmt.Fprintf(&t, "CPU of messages is above that of sitting there. Other programs took %.0f %% of the machine meanwhile (median), which makes CPU dearer, since caches are shared, and the last client wait longer.", 100*b.foreign)
	return t.String()
}

// coefficients are by the names that the model has for them.
func (b *bill) coefficients() string {
	var t strings.Builder
	t.WriteString("| coefficient | of | measured |\n| --- | --- | --- |\n")
	for _, c := range []struct {
		name, of string
		unit     unit
		value    float64
	}{
		{"conn", "gateway: memory of an idle connection with two subscriptions, a minute after all have come, after garbage collection", bytesOf, b.conn},
		{"live", "… of that, heap and stacks in use", bytesOf, b.live},
		{"rush", "… right after all have come", bytesOf, b.rush},
		{"kernel", "kernel: memory for the server's end of it", bytesOf, b.costs.kernel},
		{"base", "gateway: memory without clients", bytesOf, b.base},
		{"recent", "gateway: memory of each of the recent messages that it keeps", bytesOf, b.recent},
		{"shake", "gateway: CPU of a client that connects and subscribes", microseconds, b.shake * 1e6},
		{"idle", "gateway: CPU of a client that only sits there, each second", microseconds, b.idle * 1e6},
		{"beat", "… a heartbeat, with its answer", microseconds, b.beat * 1e6},
		{"deliver", "gateway: CPU of a message for each of many clients", microseconds, b.deliver * 1e6},
		{"single", "gateway: CPU of a message for its only client", microseconds, b.single * 1e6},
		{"receive", "each gateway: CPU of a message, whether a client wants it or not", microseconds, b.receive * 1e6},
		{"store", "NATS: CPU of a message", microseconds, b.store * 1e6},
		{"relay", "… of passing it to one gateway", microseconds, b.relay * 1e6},
		{"wire", "… its size, with data of 128 bytes", bytesOf, b.wire},
		{"frame", "a client: size of the same as a frame", bytesOf, b.frame},
	} {
		fmt.Fprintf(&t, "| `%s` | %s | %s |\n", c.name, c.of, c.unit(c.value))
	}
	return t.String()
}

const (
	scaleBegin = "<!-- scale:begin -->"
	scaleEnd   = "<!-- scale:end -->"
)
