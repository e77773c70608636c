//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
)

// scalePlan is how many clients to connect, and what to do with them.
type scalePlan struct {
	clients    int           // 0: as many as this machine allows
	gateways   int           // at least two; 0: as many as the limit of open files wants
	heartbeat  time.Duration // of the gateways; 0: as they ship, 25 s
	window     time.Duration // for which all are idle: two heartbeats, so that each client gets one at least
	broadcasts int           // messages to all clients, one after the other
	load       int           // messages to one client each, or to none
	rest       time.Duration // after which NATS has dropped its cache of what it just stored
	settle     time.Duration // memory has settled when it did not shrink for so long
	budget     time.Duration // the run fails when it takes longer
	reason     string        // the limit that made clients fewer than what was asked for
}

// scaleDefaults are those of `make scale`.
func scaleDefaults() scalePlan {
	return scalePlan{clients: 60_000, window: 50 * time.Second, broadcasts: 5, load: 12_000, rest: 12 * time.Second,
		settle: 500 * time.Millisecond, budget: 10 * time.Minute}
}

// loadPerSecond is the pace of the load: so slow that each message is handled by
// itself. At a higher one several share a wake-up, and each costs less.
const loadPerSecond = 2000

// leastClients are enough for each block to have one of each gateway.
const leastClients = 50

func parseScale(args []string, stderr io.Writer) (p scalePlan, readme string, err error) {
	p = scaleDefaults()
	f := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&p.clients, "n", p.clients, "connections; 0: as many as this machine lets")
	f.IntVar(&p.gateways, "gateways", 0, "gateway processes; 0: as many as the limit of open files wants, at least two")
	f.DurationVar(&p.budget, "budget", p.budget, "fail when the run takes longer")
	f.StringVar(&readme, "readme", "", "file to write the tables into, between their marks")
	if err := f.Parse(args); err != nil {
		return p, "", err
	}
	if f.NArg() > 0 {
		return p, "", fmt.Errorf("unexpected argument %q; bench scale -h lists the flags", f.Arg(0))
	}
	if p.clients < 0 {
		return p, "", fmt.Errorf("n: %d is negative", p.clients)
	}
	if p.gateways < 0 || p.gateways == 1 {
		return p, "", fmt.Errorf("gateways: %d is not 0 or at least two, which are compared", p.gateways)
	}
	return p, readme, nil
}

// scaleCommand is `bench scale`.
func scaleCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	p, readme, err := parseScale(args, stderr)
	if err != nil {
		return err
	}
	allowed, err := limits(p.gateways)
	if err != nil {
		return err
	}
	most, reason := within(p.clients, allowed)
	if reason != "" {
		p.reason = fmt.Sprintf("%s connections, since this machine has %s", thousands(most), reason)
		if p.clients > 0 {
			p.reason = fmt.Sprintf("%s connections instead of %s, since this machine has %s", thousands(most), thousands(p.clients), reason)
		}
		fmt.Fprintln(stderr, p.reason)
	}
	if least := max(leastClients, p.gateways); most < least {
		return fmt.Errorf("%d connections are fewer than %d", most, least)
	}
	p.clients = most
	text, err := p.run(ctx, stderr)
	if err != nil {
		return err
	}
	return publishText(stdout, readme, "scale", text)
}

// scale is one run.
type scale struct {
	*bench
	scalePlan
	nats     *server
	gateways []*server
	clients  *crowd
	idle     share   // of a second in which all clients are idle
	without  memory  // before the clients come
	costs    costs   // what was measured, for the worksheet
	bill     [][]any // rows of the first table: a title, then amounts of memory or of time
	notes    []string
}

// share is the CPU time of one thing that was measured.
type share struct{ gateways, nats cpu }

func (s share) plus(o share) share  { return share{s.gateways.plus(o.gateways), s.nats.plus(o.nats)} }
func (s share) per(n float64) share { return share{s.gateways.per(n), s.nats.per(n)} }

// aboveIdle is what it is more than what all idle clients cost in the same time, never less than nothing.
func (s share) aboveIdle(idle share, took time.Duration) share {
	rest := func(c, idle cpu) cpu {
		t := took.Seconds()
		return cpu{max(0, c.user-idle.user*t), max(0, c.sys-idle.sys*t)}
	}
	return share{rest(s.gateways, idle.gateways), rest(s.nats, idle.nats)}
}

// run connects the clients, measures what they cost, and returns the tables. It fails unless each
// client receives each message exactly once.
func (p scalePlan) run(ctx context.Context, log io.Writer) (text string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.budget, fmt.Errorf("the run is not done after %s", p.budget))
	defer cancel()
	common := plan{settle: p.settle, every: true}
	s := &scale{bench: &bench{plan: common, log: log, result: newResult(common)}, scalePlan: p, clients: &crowd{n: p.clients}, costs: costs{}}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"binaries, NATS and ingest", s.open},
		{"gateways", s.startGateways},
		{"messages that no client wants", s.receiving},
		{"NATS rests", func(ctx context.Context) error { return pause(ctx, s.rest) }},
		{"connections", s.connecting},
		{"all clients are idle", s.idling},
		{"memory", s.weighing},
		{"broadcasts", s.broadcasting},
		{"messages to one client each", s.addressing},
	} {
		begin := time.Now()
		if err := step.do(ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx) // err is a consequence of it
			}
			return "", fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Fprintf(log, "  %-30s %.1f s\n", step.what, time.Since(begin).Seconds())
	}
	return s.markdown(), nil
}

// startGateways starts them with their default settings, the limit of connections per
// address among them.
func (s *scale) startGateways(ctx context.Context) error {
	s.nats = newServer(s.broker.nats, "", s.broker.pprof)
	if most := socketsOfAProcess(); s.scalePlan.gateways == 0 {
		s.scalePlan.gateways = max(2, (s.scalePlan.clients+most-1)/most)
	}
	for range s.scalePlan.gateways {
		a, err := freeAddresses(2)
		if err != nil {
			return err
		}
		args := s.shipped(a[0], a[1])
		if s.heartbeat > 0 {
			args = append(args, "-heartbeat", s.heartbeat.String())
		}
		v := newServer(command("gateway", nil, s.binary["gateway"], args...), a[0], "http://"+a[1])
		if err := s.startServer(ctx, v, "http://"+a[0]); err != nil {
			return err
		}
		s.gateways = append(s.gateways, v)
	}
	m, err := s.weigh(ctx)
	s.costs["base"] = m.gateways / float64(len(s.gateways))
	return err
}

// spend is the CPU time of the gateways and of NATS during do.
func (s *scale) spend(do func() error) (share, time.Duration, error) {
	var gateways []*process
	for _, v := range s.gateways {
		gateways = append(gateways, v.process)
	}
	each, took, err := s.cost(do, gateways, []*process{s.broker.nats})
	if err != nil {
		return share{}, 0, err
	}
	return share{each[0], each[1]}, took, nil
}

// memory is what everything takes at one time, in bytes.
type memory struct {
	gateways, gatewaysLive float64 // resident after garbage collection; of that, heap and stacks in use
	natsLive               float64
	subscriptions          int // of NATS
	kernel                 kernel
}

func (s *scale) weigh(ctx context.Context) (m memory, err error) {
	for _, v := range s.gateways {
		live, err1 := v.heap(ctx, true)
		resident, err2 := v.settle(ctx, s.scalePlan.settle)
		if err := errors.Join(err1, err2); err != nil {
			return m, err
		}
		m.gateways, m.gatewaysLive = m.gateways+resident, m.gatewaysLive+live.live
	}
	live, err1 := s.nats.heap(ctx, true)
	m.natsLive = live.live
	text, err2 := s.nats.get(ctx, s.broker.varz)
	if err := errors.Join(err1, err2); err != nil {
		return m, err
	}
	var state struct{ Subscriptions int }
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		return m, fmt.Errorf("state of NATS: %w", err)
	}
	m.subscriptions = state.Subscriptions
	m.kernel, err = readKernel()
	return m, err
}

// blocks are in how many parts loads are sent that are compared with each other:
// they alternate, so that other load on the machine affects all of them.
const blocks = 4

// block is one part of a load.
func (s *scale) block(channel func(i int) string) load {
	return load{messages: max(1, s.load/blocks), perSecond: loadPerSecond, burst: 1, channel: channel}
}

// receiving measures what a message costs that goes to all gateways and to no
// client. NATS pays for storing it and for passing it to each gateway; the latter is
// the difference between messages that are not stored, on subjects that gateways follow
// and on others.
func (s *scale) receiving(ctx context.Context) error {
	const nobody = "public.nobody"
	before, err := s.weigh(ctx)
	if err != nil {
		return err
	}
	if s.costs["wire"], err = s.wireBytes(ctx, nobody); err != nil {
		return err
	}
	l := s.block(func(int) string { return nobody })
	var stored, passed, unfollowed share
	for range blocks {
		for _, part := range []struct {
			into *share
			send func() error
		}{
			{&stored, func() error { return s.broker.publish(ctx, l) }},
			{&passed, func() error { return s.broker.pass(ctx, l, proto.SubjectLive) }},
			{&unfollowed, func() error { return s.broker.pass(ctx, l, "bench.") }},
		} {
			used, _, err := s.spend(part.send)
			if err != nil {
				return err
			}
			*part.into = part.into.plus(used)
		}
	}
	after, err := s.weigh(ctx)
	n, gateways := float64(blocks*l.messages), float64(len(s.gateways))
	s.costs["relay"] = (passed.nats.sum() - unfollowed.nats.sum()) / n / gateways
	s.costs["store"] = stored.nats.sum()/n - max(0, s.costs["relay"])*gateways
	s.costs["receive"] = stored.gateways.sum() / n / gateways
	s.costs["recent"] = (after.gatewaysLive - before.gatewaysLive) / n / gateways
	return err
}

// wireBytes stores one message and returns its size as a gateway receives it, with the
// headers that NATS adds when it republishes.
func (s *scale) wireBytes(ctx context.Context, channel string) (float64, error) {
	sub, err := s.broker.nc.SubscribeSync(proto.LiveSubject(channel))
	if err != nil {
		return 0, fmt.Errorf("size of a message: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // it ends with the connection at the latest
	if err := s.broker.publish(ctx, to(channel, 1)); err != nil {
		return 0, err
	}
	m, err := sub.NextMsg(30 * time.Second)
	if err != nil {
		return 0, fmt.Errorf("size of a message: %w", err)
	}
	return float64(m.Size()), nil
}

// connecting connects all clients at once, each with an address of its own, to
// the channel that all follow and one of its own.
func (s *scale) connecting(ctx context.Context) (err error) {
	n := s.clients.n
	for i, v := range s.gateways {
		first := n * i / len(s.gateways)
		g := v.group(n*(i+1)/len(s.gateways)-first, everybody+"&channel="+ownChannel, false)
		g.First, g.PerAddress = first, 1
		some, err := s.startClients(g, true)
		if err != nil {
			return err
		}
		s.clients.parts = append(s.clients.parts, some.parts...)
	}
	if s.without, err = s.weigh(ctx); err != nil {
		return err
	}
	var within time.Duration
	all, _, err := s.spend(func() (err error) { within, err = s.clients.connect(ctx, ""); return err })
	if err != nil {
		return err
	}
	s.row(fmt.Sprintf("CPU while all come at once, within %.0f s", within.Seconds()), all)
	var rush float64
	for _, v := range s.gateways {
		resident, e := rssOf(v.pid())
		rush, err = rush+resident, errors.Join(err, e)
	}
	s.costs["rush"] = (rush - s.without.gateways) / float64(n)
	s.costs["shake"] = all.gateways.sum() / float64(n)
	return err
}

// idling measures heartbeats: nothing else happens.
func (s *scale) idling(ctx context.Context) error {
	n := s.clients.n
	before, err := s.clients.call(ctx, "Count", "")
	if err != nil {
		return err
	}
	used, took, err := s.spend(func() error { return pause(ctx, s.window) })
	if err != nil {
		return err
	}
	after, err := s.clients.call(ctx, "Count", "")
	if err != nil {
		return err
	}
	pings := after.Pings - before.Pings
	if after.Connected != n || pings < int64(n) {
		return fmt.Errorf("%d of %d clients are still there, and %d pings came within %s, want one for each at least", after.Connected, n, pings, took)
	}
	s.idle = used.per(took.Seconds())
	beats := float64(pings) / took.Seconds()
	s.row(fmt.Sprintf("CPU of a second in which all sit there, with %.0f heartbeats", beats), s.idle)
	s.costs["idle"] = s.idle.gateways.sum() / float64(n)
	s.costs["beat"] = s.idle.gateways.sum() / beats
	return nil
}

// weighing measures memory when the clients have been connected for a while: the runtime gives
// back the garbage of handshakes at its own pace.
func (s *scale) weighing(ctx context.Context) error {
	n := float64(s.clients.n)
	with, err := s.weigh(ctx)
	if err != nil {
		return err
	}
	slab, sockets := with.kernel.slab-s.without.kernel.slab, with.kernel.sockets-s.without.kernel.sockets
	s.costs["conn"] = (with.gateways - s.without.gateways) / n
	s.costs["live"] = (with.gatewaysLive - s.without.gatewaysLive) / n
	s.costs["kernel"] = slab / n / 2 // both ends of a connection are on this machine
	nats := with.natsLive - s.without.natsLive
	for i, of := range []struct {
		what string
		n    float64
	}{{"memory of one, idle", 1}, {"memory of all", n}} {
		gateways, kernel, nats := s.costs["conn"]*of.n, s.costs["kernel"]*of.n, nats/n*of.n
		s.bill = slices.Insert(s.bill, i, []any{of.what, bytesOf(gateways), bytesOf(kernel), bytesOf(nats), bytesOf(gateways + kernel + nats)})
	}
	s.note("NATS had %d subscriptions without the clients and %d with them; its memory is heap and stacks in use.", s.without.subscriptions, with.subscriptions)
	s.note("The kernel's memory is half of what `Slab` in /proc/meminfo grew by, %s per connection, as both ends are here. What waits in sockets (`mem` in /proc/net/sockstat) is not among it, and grew by %s per connection.",
		bytesOf(slab/n), bytesOf(max(0, with.kernel.buffers-s.without.kernel.buffers)/n))
	if foreign := sockets - 2*n; foreign > n/50 || foreign < -n/50 {
		s.note("Do not trust this figure: other programs have %+.0f sockets since.", foreign)
	}
	return nil
}

// broadcasting sends one message after the other to all. Each client must receive
// each once.
func (s *scale) broadcasting(ctx context.Context) error {
	n := s.clients.n
	if err := s.warm(ctx, s.clients, to(everybody, 1), 1); err != nil {
		return err
	}
	var sum share
	var last []float64 // seconds from publisher to the last client, of each broadcast
	for range s.broadcasts {
		if _, err := s.clients.call(ctx, "Reset", ""); err != nil {
			return err
		}
		var got Tally
		used, took, err := s.spend(func() (err error) {
			if err := s.broker.publish(ctx, to(everybody, 1)); err != nil {
				return err
			}
			got, err = s.clients.await(ctx, 1)
			return err
		})
		if err != nil {
			return err
		}
		if got.Messages != int64(n) {
			return fmt.Errorf("%d clients received one message %d times", n, got.Messages)
		}
		sum, last = sum.plus(used.aboveIdle(s.idle, took)), append(last, got.Latency.percentile(1))
		s.costs["frame"] = float64(got.ParsedBytes)
	}
	one := sum.per(float64(s.broadcasts))
	s.row(fmt.Sprintf("CPU of a message that all get, the last one after %.2f s (%.2f–%.2f)", median(last), slices.Min(last), slices.Max(last)), one)
	s.costs["deliver"] = one.gateways.sum() / float64(n)
	return nil
}

// addressing sends messages to clients all over, at most one to each. Those of one
// block all go to clients of one gateway, so that what it spends more than the others,
// in the same time, is what a message costs that has a client.
func (s *scale) addressing(ctx context.Context) error {
	n, gateways := s.clients.n, len(s.gateways)
	visits := (blocks + gateways - 1) / gateways // of each gateway
	l := s.block(nil)
	l.messages = max(1, min(l.messages, n/gateways/visits))
	apart := n / gateways / (visits * l.messages)
	groups := [][]*process{{s.broker.nats}}
	for _, v := range s.gateways {
		groups = append(groups, []*process{v.process})
	}
	if _, err := s.clients.call(ctx, "Reset", ""); err != nil {
		return err
	}
	var single float64
	var all share
	for block := range blocks {
		turn := block % gateways
		first, visit := n*turn/gateways, block/gateways
		l.channel = func(i int) string { return own(first + (visit*l.messages+i)*apart) }
		sum := int64((block + 1) * l.messages)
		var got Tally
		each, took, err := s.cost(func() (err error) {
			if err := s.broker.publish(ctx, l); err != nil {
				return err
			}
			got, err = s.clients.until(ctx, deliveryTimeout, func(t *Tally) bool { return t.Messages >= sum })
			return err
		}, groups...)
		if err != nil {
			return err
		}
		if got.Messages != sum {
			return fmt.Errorf("of %d messages to one client each %d came", sum, got.Messages)
		}
		used := share{nats: each[0]}
		for _, c := range each[1:] {
			used.gateways = used.gateways.plus(c)
		}
		all = all.plus(used.aboveIdle(s.idle, took))
		its := each[1+turn].sum()
		single += its - (used.gateways.sum()-its)/float64(gateways-1)
	}
	messages := float64(blocks * l.messages)
	s.row("CPU of 1,000 messages to one client each", all.per(messages/1000))
	s.costs["single"] = single / messages
	return nil
}

// row adds CPU time to the first table, with three digits or so.
func (s *scale) row(what string, of share) {
	write := func(v float64) string {
		if v < 1 {
			return fmt.Sprintf("%.0f ms", v*1e3)
		}
		return seconds(v)
	}
	s.bill = append(s.bill, []any{what, write(of.gateways.user), write(of.gateways.sys), write(of.nats.sum()), write(of.gateways.sum() + of.nats.sum())})
}

func (s *scale) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// markdown is all tables and what must be known about them.
func (s *scale) markdown() string {
	var t strings.Builder
	fmt.Fprintf(&t, "| %s connections on %d gateways | gateways | kernel, on their behalf | nats-server | together |\n| --- | --- | --- | --- | --- |\n",
		thousands(s.clients.n), len(s.gateways))
	for _, cells := range s.bill {
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s |\n", cells...)
	}
	fmt.Fprintf(&t, "\n`make scale N=%d`, %s: %d processors of %s, %s, all on one machine over loopback, without TLS.",
		s.clients.n, time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), machine(), runtime.Version())
	if s.reason != "" {
		fmt.Fprintf(&t, " %s%s.", strings.ToUpper(s.reason[:1]), s.reason[1:])
	}
	fmt.Fprintf(&t, " Gateways as they ship, so at most 2000 connections per address: each client has one of its own in 127.0.0.0/8, and two channels: one that all follow, one of its own. They are held by %d processes. Every client was counted to get every message, once. %s CPU of messages is above that of sitting there. Other programs took %.0f %% of the machine meanwhile (median), which makes CPU dearer, since caches are shared, and the last client wait longer.\n\n",
		len(s.clients.parts), strings.Join(s.notes, " "), 100*median(s.result.foreign))
	return t.String() + s.costs.inputs() + "\nAnd what follows for a million:\n\n" + s.costs.forecasts()
}
