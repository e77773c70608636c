//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
)

// scalePlan is how many clients to connect, and what to do with them.
type scalePlan struct {
	clients    int           // 0: as many as this machine allows
	gateways   int           // at least two; 0: as many as the limit of open files wants
	heartbeat  time.Duration // of the gateways
	window     time.Duration // for which all are idle: two heartbeats, so that each client gets one at least
	broadcasts int           // messages to all clients, one after the other
	load       int           // messages to one client each, or to none
	rest       time.Duration // after which NATS has dropped its cache of what it just stored
	settle     time.Duration // memory has settled when it did not shrink for so long
	budget     time.Duration // the run fails when it takes longer
}

// scaleDefaults are those of `make scale`; the heartbeat is the gateway's own default.
func scaleDefaults() scalePlan {
	return scalePlan{clients: 60_000, heartbeat: 25 * time.Second, window: 50 * time.Second, broadcasts: 5, load: 12_000,
		rest: 12 * time.Second, settle: 500 * time.Millisecond, budget: 10 * time.Minute}
}

// loadPerSecond is the pace of the load: so slow that each message is handled by
// itself. At a higher one several share a pack and a wake-up, and each costs less.
const loadPerSecond = 2000

func parseScale(args []string, stderr io.Writer) (p scalePlan, readme string, err error) {
	p = scaleDefaults()
	f := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&p.clients, "n", p.clients, "connections; 0: as many as this machine lets")
	f.IntVar(&p.gateways, "gateways", 0, "gateway processes; 0: as many as the limit of open files wants, at least two")
	f.StringVar(&readme, "readme", "", "file to write the tables into, between their marks")
	if err := f.Parse(args); err != nil {
		return p, "", err
	}
	switch {
	case f.NArg() > 0:
		return p, "", fmt.Errorf("unexpected argument %q; bench scale -h lists the flags", f.Arg(0))
	case p.clients < 0:
		return p, "", fmt.Errorf("n: %d is negative", p.clients)
	case p.gateways < 0 || p.gateways == 1:
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
	most, reason, err := machineAllows(p.gateways)
	if err != nil {
		return err
	}
	if p.clients == 0 || most < p.clients {
		fmt.Fprintf(stderr, "%s connections, since this machine has %s\n", thousands(most), reason)
		p.clients = most
	}
	text, err := p.run(ctx, stderr)
	if err != nil {
		return err
	}
	return publishText(stdout, readme, "scale", text)
}

// bytesOfBoth is the memory that both ends of a connection need at most, in both
// processes, with the garbage of the handshakes.
const bytesOfBoth = 24 << 10

// machineAllows is of how many connections this machine can hold both ends, and what limits them. gateways is
// the number of gateway processes; 0: as many as it takes.
func machineAllows(gateways int) (most int, reason string, err error) {
	available, err := field("/proc/meminfo", "MemAvailable:", 1)
	tracked, _ := field("/proc/sys/net/netfilter/nf_conntrack_max", "", 0) // else connections are not tracked
	most, reason = available<<10/bytesOfBoth, fmt.Sprintf("%d MB of free memory", available>>10)
	if n := gateways * socketsOfAProcess(); n > 0 && n < most {
		most, reason = n, fmt.Sprintf("%d sockets in each of %d gateways", socketsOfAProcess(), gateways)
	}
	if n := tracked - 1000; n > 0 && n < most {
		most, reason = n, fmt.Sprintf("nf_conntrack_max of %d", tracked)
	}
	return most, reason, err
}

// scale is one run.
type scale struct {
	*bench
	scalePlan
	*system
	gateways []*server
	clients  *crowd
	costs    costs     // what was measured, for the worksheet
	without  memory    // before the clients come
	kernel   float64   // then
	last     []float64 // seconds until the last client has a broadcast
}

// run connects the clients, measures what they cost, and returns the tables. It fails unless each
// client receives each message exactly once.
func (p scalePlan) run(ctx context.Context, log io.Writer) (text string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.budget, fmt.Errorf("the run is not done after %s", p.budget))
	defer cancel()
	s := &scale{bench: &bench{log: log, result: &result{}, plan: plan{samples: 1}}, scalePlan: p, clients: &crowd{n: p.clients}, costs: costs{}}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"binaries", s.open},
		{"messages without gateways", s.storing},
		{"messages that no client wants", s.receiving},
		{"NATS rests", func(ctx context.Context) error { return pause(ctx, s.rest) }},
		{"connections", s.connecting},
		{"all clients are idle", s.idling},
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
		fmt.Fprintf(log, "%s: %.1f s\n", step.what, time.Since(begin).Seconds())
	}
	return s.markdown(), nil
}

// spend is the CPU time of NATS, of each gateway and of all gateways during do, and do's wall time.
func (s *scale) spend(do func() error) (nats float64, each []float64, all, took float64, err error) {
	of := []*process{s.nats.process}
	for _, v := range s.gateways {
		of = append(of, v.process)
	}
	used, took, err := s.cost(do, of...)
	if err != nil {
		return 0, nil, 0, 0, err
	}
	for _, c := range used[1:] {
		each, all = append(each, c.sum), all+c.sum
	}
	return used[0].sum, each, all, took, nil
}

// weigh is the memory of all gateways, and the kernel's slabs: sockets, their files and their entries in an epoll;
// not what waits in them.
func (s *scale) weigh(ctx context.Context) (sum memory, kernel float64, err error) {
	for _, v := range s.gateways {
		m, e := v.weigh(ctx, s.scalePlan.settle)
		sum, err = memory{resident: sum.resident + m.resident, live: sum.live + m.live}, errors.Join(err, e)
	}
	slab, e := field("/proc/meminfo", "Slab:", 1)
	return sum, float64(slab << 10), errors.Join(err, e)
}

// unwantedLoad is messages that no client wants, each by itself.
func (s *scale) unwantedLoad() load {
	return load{messages: s.load, perSecond: loadPerSecond, channel: func(int) string { return "public.nobody" }}
}

// storing measures what NATS does with a message that no gateway receives.
func (s *scale) storing(ctx context.Context) (err error) {
	if s.system, err = s.startBroker(ctx, "2m"); err != nil {
		return err
	}
	nats, _, _, _, err := s.spend(func() error { _, err := s.publish(ctx, s.unwantedLoad()); return err })
	s.costs["store"] = nats / float64(s.load)
	return err
}

// receiving measures what a message costs that goes to all gateways and to no client.
func (s *scale) receiving(ctx context.Context) error {
	gateways := s.scalePlan.gateways
	if gateways == 0 {
		gateways = max(2, (s.clients.n+socketsOfAProcess()-1)/socketsOfAProcess())
	}
	for range gateways {
		v, err := s.startGateway(ctx, setup{NATS: s.natsURL}, "/readyz", "-heartbeat", s.heartbeat.String())
		if err != nil {
			return err
		}
		s.gateways = append(s.gateways, v)
	}
	if err := s.wireBytes(ctx); err != nil {
		return err
	}
	before, _, err := s.weigh(ctx)
	if err != nil {
		return err
	}
	nats, _, all, _, err := s.spend(func() error { _, err := s.publish(ctx, s.unwantedLoad()); return err })
	if err != nil {
		return err
	}
	after, _, err := s.weigh(ctx)
	each := float64(s.load * gateways)
	s.costs["base"] = before.resident / float64(gateways)
	s.costs["relay"] = (nats - s.costs["store"]*float64(s.load)) / each
	s.costs["receive"] = all / each
	s.costs["recent"] = (after.live - before.live) / each
	return err
}

// wireBytes measures the size of a message as a gateway receives it, with the
// headers that NATS adds when it republishes.
func (s *scale) wireBytes(ctx context.Context) error {
	nc, err := nats.Connect(s.natsURL)
	if err != nil {
		return fmt.Errorf("size of a message: %w", err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync(proto.SubjectLivePacks)
	if err := errors.Join(err, nc.Flush()); err != nil {
		return fmt.Errorf("size of a message: %w", err)
	}
	_, err = s.publish(ctx, to(everybody, 1))
	m, err2 := sub.NextMsg(30 * time.Second)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("size of a message: %w", err)
	}
	s.costs["wire"] = float64(m.Size())
	return nil
}

// first is the number of the first client of a gateway.
func (s *scale) first(gateway int) int { return s.clients.n * gateway / len(s.gateways) }

// connecting connects all clients at once, each with an address of its own, to
// the channel that all follow and one of its own.
func (s *scale) connecting(ctx context.Context) (err error) {
	for i, v := range s.gateways {
		some, err := s.startClients(group{dialect: native, Channel: everybody + "&channel=" + ownChannel, Share: 1,
			First: s.first(i), N: s.first(i+1) - s.first(i), Addr: v.addr, PerAddress: 1}, true)
		if err != nil {
			return err
		}
		s.clients.parts = append(s.clients.parts, some.parts...)
	}
	if s.without, s.kernel, err = s.weigh(ctx); err != nil {
		return err
	}
	_, _, all, _, err := s.spend(func() error { return s.clients.connect(ctx, "") })
	if err != nil {
		return err
	}
	var rush float64
	for _, v := range s.gateways {
		resident, e := rssOf(v.pid())
		rush, err = rush+resident, errors.Join(err, e)
	}
	n := float64(s.clients.n)
	s.costs["rush"], s.costs["shake"] = (rush-s.without.resident)/n, all/n
	return err
}

// idling measures heartbeats, as nothing else happens, and then memory: the runtime has given
// back the garbage of handshakes, which it does at its own pace.
func (s *scale) idling(ctx context.Context) error {
	before, err := s.clients.call(ctx, "Count", "")
	if err != nil {
		return err
	}
	_, _, all, took, err := s.spend(func() error { return pause(ctx, s.window) })
	if err != nil {
		return err
	}
	after, err := s.clients.call(ctx, "Count", "")
	if err != nil {
		return err
	}
	n, pings := float64(s.clients.n), float64(after.Pings-before.Pings)
	if after.Connected != s.clients.n || pings < n {
		return fmt.Errorf("%d of %.0f clients are still there, and %.0f pings came within %.0f s, want one for each at least", after.Connected, n, pings, took)
	}
	s.costs["idle"], s.costs["beat"] = all/took/n, all/pings
	with, kernel, err := s.weigh(ctx)
	s.costs["conn"] = (with.resident - s.without.resident) / n
	s.costs["live"] = (with.live - s.without.live) / n
	s.costs["kernel"] = (kernel - s.kernel) / n / 2 // both ends of a connection are on this machine
	return err
}

// broadcasting sends one message after the other to all. Each client must receive
// each once.
func (s *scale) broadcasting(ctx context.Context) error {
	n := s.clients.n
	if _, err := s.clients.receive(ctx, s.target, to(everybody, 1), 1); err != nil {
		return err
	}
	var sum float64
	for range s.broadcasts {
		var got Tally
		_, _, all, took, err := s.spend(func() (err error) {
			got, err = s.clients.receive(ctx, s.target, to(everybody, 1), 1)
			return err
		})
		if err != nil {
			return err
		}
		if got.Messages != int64(n) {
			return fmt.Errorf("%d clients received one message %d times", n, got.Messages)
		}
		sum, s.last = sum+max(0, all-s.costs["idle"]*float64(n)*took), append(s.last, got.Latency.percentile(1))
		s.costs["frame"] = float64(got.ParsedBytes)
	}
	s.costs["deliver"] = sum / float64(s.broadcasts) / float64(n)
	return nil
}

// addressing sends messages to clients of one gateway, at most one to each: what it spends more than the others
// do in the same time is what a message costs that has a client.
func (s *scale) addressing(ctx context.Context) error {
	messages := min(s.load, s.first(1))
	l := load{messages: messages, perSecond: loadPerSecond, channel: func(i int) string { return fmt.Sprintf("public.u%05d", i*(s.first(1)/messages)) }}
	if _, err := s.clients.call(ctx, "Reset", ""); err != nil {
		return err
	}
	var got Tally
	_, each, all, _, err := s.spend(func() (err error) {
		if _, err := s.publish(ctx, l); err != nil {
			return err
		}
		got, err = s.clients.until(ctx, deliveryTimeout, func(t *Tally) bool { return t.Messages >= int64(messages) })
		return err
	})
	if err != nil {
		return err
	}
	if got.Messages != int64(messages) {
		return fmt.Errorf("of %d messages to one client each %d came", messages, got.Messages)
	}
	s.costs["single"] = (each[0] - (all-each[0])/float64(len(each)-1)) / float64(messages)
	return nil
}

// markdown is both tables and what must be known about them.
func (s *scale) markdown() string {
	return fmt.Sprintf("`make scale N=%d`, %s: %s connections on %d gateways, held by %d processes; %d processors of %s, %s, all on one machine over loopback, without TLS. "+
		"Gateways as they ship, so at most 2000 connections per address: each client has one of its own in 127.0.0.0/8, and two channels, one that all follow, one of its own. "+
		"Every client was counted to get every message, once; the last client had a broadcast after %.2f s (median). The kernel's memory is half of what `Slab` in /proc/meminfo grew by, as both ends of each connection are here; what waits in sockets is not among it. "+
		"CPU of messages is above that of sitting there. Other programs took %.0f %% of the machine meanwhile (median), which makes CPU dearer, since caches are shared.\n\n",
		s.clients.n, time.Now().UTC().Format(time.DateOnly), thousands(s.clients.n), len(s.gateways), len(s.clients.parts), runtime.NumCPU(), machine(), runtime.Version(),
		median(s.last), 100*median(s.result.foreign)) + s.costs.inputs() + "\nAnd what follows for a million:\n\n" + s.costs.forecasts()
}
