//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// scenario is clients of one kind, and what is measured with them, in this order.
type scenario struct {
	channel string // {n} is the client's number
	most    int    // clients; 0: as many as the plan says
	tls     bool
	pings   bool // the server pings
	parse   bool // every client parses what it receives
	steps   []step
}

// step is one measurement.
type step struct {
	name     string // for -only
	largest  bool   // with the largest number of clients only
	needs    ability
	connects bool // as the first step, it connects the clients itself
	do       func(ctx context.Context, t *trial) error
}

// The channel that all clients of a broadcast follow, and those of one client each.
const everybody, ownChannel = "public.bench", "public.u{n}"

// Enough clients to measure TLS, whose handshakes cost the clients more than the server, and pings.
const mostSecure, mostPinged = 2000, 5000

// scenarios are performed in this order in each round.
var scenarios = []scenario{
	{channel: everybody, steps: []step{
		{name: "idle", largest: true, connects: true, do: arrive},
		{name: "fanout", do: broadcast(1)},
		{name: "fanout", largest: true, do: profiled},
		{name: "bursts", do: broadcast(burstOf)},
		{name: "storm", largest: true, needs: reads, do: storm},
		{name: "resume", largest: true, needs: resumes, do: resume},
	}},
	{channel: ownChannel, steps: []step{{name: "channels", largest: true, do: channels}}},
	{channel: everybody, most: mostSecure, tls: true, steps: []step{
		{name: "tls", largest: true, needs: speaksTLS, connects: true, do: arrive}}},
	{channel: everybody, most: mostPinged, pings: true, parse: true, steps: []step{
		{name: "ping", largest: true, needs: reads, connects: true, do: ping}}},
}

// scenarioNames are the names of steps, and ingest, which has no clients and nothing to compare with.
func scenarioNames() (names []string) {
	for _, s := range scenarios {
		for _, p := range s.steps {
			names = append(names, p.name)
		}
	}
	return append(slices.Compact(names), "ingest")
}

// trial is one candidate with clients.
type trial struct {
	*bench
	v       *server
	clients *crowd
	tls     bool
}

// cost is the candidate's CPU time during do, and do's wall time.
func (t *trial) cost(do func() error) (cpu, time.Duration, error) {
	each, took, err := t.bench.cost(do, []*process{t.v.process})
	if err != nil {
		return cpu{}, 0, err
	}
	return each[0], took, nil
}

// record notes a figure of this round. A title that begins with … belongs to the one before it.
func (t *trial) record(what string, unit unit, value float64) *figure {
	fmt.Fprintf(t.log, "  %-10s %s: %s\n", t.v.of.name, what, unit(value))
	return t.result.record(what, unit, t.v.of, t.round, value)
}

// Titles of figures.
const (
	idleMemory, idleMemoryTLS = "an idle client, resident memory", "an idle client over TLS, resident memory"
	handshake, handshakeTLS   = "a handshake, CPU", "a handshake over TLS, CPU"
	liveMemory                = "… heap and stacks in use"
	pingTitle                 = "a ping and its pong, CPU"
	perMillion                = ": CPU of a million deliveries"
	userTime                  = "… outside the kernel"
	latencies                 = "… latency, p50 / p99"
	systemCalls               = "… CPU in system calls"
)

// fan is the title of a load that all clients of one channel receive.
func fan(clients, burst int) string {
	if burst == 1 {
		return thousands(clients) + " clients, one message at a time" + perMillion
	}
	return fmt.Sprintf("%s clients, bursts of %d messages%s", thousands(clients), burst, perMillion)
}

const (
	mostPerSecond = 10_000 // messages, not deliveries, of a load: NATS stores each
	burstOf       = 5      // messages that are published at once in bursts
	missed        = 20     // messages that are stored while all clients are away
	channelsShare = 5      // one in so many deliveries of a broadcast is enough where each costs several times as much
)

// arrive connects the clients at once, and measures what that costs and what memory
// they take while they are idle.
func arrive(ctx context.Context, t *trial) error {
	v, memory, shake := t.v, idleMemory, handshake
	if t.tls {
		memory, shake = idleMemoryTLS, handshakeTLS
	}
	if err := t.visit(ctx); err != nil {
		return err
	}
	before, err := v.heap(ctx, true)
	if err != nil {
		return err
	}
	resident, err := v.settle(ctx, t.settle)
	if err != nil {
		return err
	}
	// The runtime gives what it kept of the visitors to the clients. If that were not
	// added, they would look cheaper than they are.
	kept, err := v.heap(ctx, false)
	if err != nil {
		return err
	}
	used, _, err := t.cost(func() error { _, err := t.clients.connect(ctx, ""); return err })
	if err != nil {
		return err
	}
	if err := pause(ctx, t.rest); err != nil { // the runtime gives the garbage of handshakes back at its own pace
		return err
	}
	after, err := v.heap(ctx, true)
	if err != nil {
		return err
	}
	then, err := v.settle(ctx, t.settle)
	if err != nil {
		return err
	}
	n := float64(t.clients.n)
	t.record(memory, kilobytes, (then-resident+kept.kept)/n)
	t.record(liveMemory, kilobytes, (after.live-before.live)/n)
	t.record(shake, microseconds, used.sum()/n*1e6)
	return nil
}

// visitorsFor is how many clients come before n others: enough for every path of the code to have
// run many times, and few beside those whose memory is measured.
func visitorsFor(n int) int { return min(300, max(1, n/20)) }

// visit connects some clients and ends them. The server's code is then in memory, and
// its pools and the runtime's tables exist: what it needs once does not count as
// memory of clients.
func (t *trial) visit(ctx context.Context) error {
	const visitors = "public.visitors"
	few, err := t.startClients(t.v.group(visitorsFor(t.clients.n), visitors, t.tls), false)
	if err != nil {
		return err
	}
	defer t.endClients(few)
	if _, err := few.connect(ctx, ""); err != nil {
		return err
	}
	if _, err := few.call(ctx, "Drop", ""); err != nil {
		return err
	}
	return t.broker.publish(ctx, to(visitors, 1)) // the bare loop notices that clients are gone when it writes to them
}

// broadcast publishes at the offered rate and measures what the deliveries cost.
func broadcast(burst int) func(ctx context.Context, t *trial) error {
	return func(ctx context.Context, t *trial) error {
		n := t.clients.n
		if err := t.warm(ctx, to(everybody, burst), int64(burst)); err != nil {
			return err
		}
		l := to(everybody, max(2, (t.deliver/n+burstOf-1)/burstOf)*burstOf)
		l.perSecond, l.burst = t.perSecond(), burst
		return t.deliveries(ctx, fan(n, burst), l.messages, l)
	}
}

// perSecond is how many messages a second make the offered rate of deliveries.
func (t *trial) perSecond() float64 {
	return min(mostPerSecond, float64(t.rate)/float64(t.clients.n))
}

// warm publishes a few messages, so that what happens once has happened, and counts from then on.
func (b *bench) warm(ctx context.Context, clients *crowd, l load, each int64) error {
	if _, err := clients.call(ctx, "Reset", ""); err != nil {
		return err
	}
	if err := b.broker.publish(ctx, l); err != nil {
		return err
	}
	if _, err := clients.await(ctx, each); err != nil {
		return err
	}
	_, err := clients.call(ctx, "Reset", "")
	return err
}

func (t *trial) warm(ctx context.Context, l load, each int64) error {
	return t.bench.warm(ctx, t.clients, l, each)
}

// deliveries measures a load of which each client receives so many messages.
func (t *trial) deliveries(ctx context.Context, what string, each int, l load) error {
	var got Tally
	used, _, err := t.cost(func() (err error) {
		if err := t.broker.publish(ctx, l); err != nil {
			return err
		}
		got, err = t.clients.await(ctx, int64(each))
		return err
	})
	if err != nil {
		return err
	}
	million := used.per(float64(each*t.clients.n) / 1e6)
	f := t.record(what, seconds, million.sum())
	if what == fan(t.clients.n, 1) { // one write for each delivery, as the bare loop has
		f.besideLoop = true
		t.record(userTime, seconds, million.user)
	}
	t.record(latencies, milliseconds, got.Latency.percentile(0.50)).and(t.v.of, t.round, got.Latency.percentile(0.99))
	return nil
}

// channels: each client follows a channel of its own.
func channels(ctx context.Context, t *trial) error {
	n := t.clients.n
	l := load{messages: n, perSecond: mostPerSecond, burst: 1, channel: func(i int) string { return own(i % n) }}
	if err := t.warm(ctx, l, 1); err != nil {
		return err
	}
	each := max(1, t.deliver/n/channelsShare)
	l.messages = each * n
	return t.deliveries(ctx, fmt.Sprintf("%s channels of one client each%s", thousands(n), perMillion), each, l)
}

// own is the channel of one client alone.
func own(client int) string { return fmt.Sprintf("public.u%05d", client) }

// storm drops all connections; the clients come back at once.
func storm(ctx context.Context, t *trial) error {
	const what = "%s clients lose their connection and come back at once: CPU per client"
	return t.comeBack(what, "… until all are back", func() error {
		if _, err := t.clients.call(ctx, "Drop", ""); err != nil {
			return err
		}
		_, err := t.clients.connect(ctx, "")
		return err
	})
}

// resume drops all connections, and the clients missed something when they come back.
func resume(ctx context.Context, t *trial) error {
	since, err := t.broker.newest(ctx)
	if err != nil {
		return err
	}
	for _, method := range []string{"Drop", "Reset"} {
		if _, err := t.clients.call(ctx, method, ""); err != nil {
			return err
		}
	}
	if err := t.broker.publish(ctx, to(everybody, missed)); err != nil {
		return err
	}
	what := fmt.Sprintf("%%s clients come back at once and get %d missed messages: CPU per client", missed)
	return t.comeBack(what, "… until all have them", func() error {
		if _, err := t.clients.connect(ctx, "&since="+since); err != nil {
			return err
		}
		_, err := t.clients.await(ctx, missed)
		return err
	})
}

// comeBack measures what all clients cost that come back.
func (t *trial) comeBack(what, until string, do func() error) error {
	used, wall, err := t.cost(do)
	if err != nil {
		return err
	}
	t.record(fmt.Sprintf(what, thousands(t.clients.n)), microseconds, used.sum()/float64(t.clients.n)*1e6)
	t.record(until, seconds, wall.Seconds())
	return nil
}

// ping measures what pings and pongs cost, and nothing else: what the process does
// without any client is subtracted, and counting begins when the garbage of the
// handshakes is collected and as many pings have come as there are clients.
func ping(ctx context.Context, t *trial) error {
	if _, err := t.v.heap(ctx, true); err != nil {
		return err
	}
	alone, idle, err := t.cost(func() error { return pause(ctx, t.pingEvery) })
	if err != nil {
		return err
	}
	if _, err := t.clients.connect(ctx, ""); err != nil {
		return err
	}
	pinged := func(n int64) (Tally, error) {
		return t.clients.until(ctx, 6*t.pingEvery, func(t *Tally) bool { return t.Pings >= n })
	}
	if _, err := pinged(int64(t.clients.n)); err != nil {
		return err
	}
	if _, err := t.v.heap(ctx, true); err != nil {
		return err
	}
	var before, after Tally
	used, took, err := t.cost(func() (err error) {
		if before, err = t.clients.call(ctx, "Count", ""); err != nil {
			return err
		}
		after, err = pinged(before.Pings + int64(t.pingRounds*t.clients.n))
		return err
	})
	if err != nil {
		return err
	}
	other := alone.sum() / idle.Seconds() * took.Seconds()
	t.record(pingTitle, microseconds, max(0, used.sum()-other)/float64(after.Pings-before.Pings)*1e6)
	return nil
}
