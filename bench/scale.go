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
	gateways   int           // at least two, which are compared; 0: as many as the limit of open files wants
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
	f.StringVar(&readme, "readme", "", "file to write the tables into, between their marks")
	switch err = f.Parse(args); {
	case err != nil:
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q; bench scale -h lists the flags", f.Arg(0))
	case p.clients < 0:
		err = fmt.Errorf("n: %d is negative", p.clients)
	}
	return p, readme, err
}

// scaleCommand is `bench scale`.
func scaleCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	p, readme, err := parseScale(args, stderr)
	if err != nil {
		return err
	}
	most, reason, err := machineAllows()
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

// machineAllows is of how many connections this machine can hold both ends, and what limits them.
func machineAllows() (most int, reason string, err error) {
	const bytesOfBoth = 24 << 10 // memory of both ends at most, in both processes, with the garbage of the handshakes
	available, err := field("/proc/meminfo", "MemAvailable:", 1)
	tracked, _ := field("/proc/sys/net/netfilter/nf_conntrack_max", "", 0) // else connections are not tracked
	if most = available << 10 / bytesOfBoth; tracked > 0 && tracked-1000 < most {
		return tracked - 1000, fmt.Sprintf("nf_conntrack_max of %d", tracked), err
	}
	return most, fmt.Sprintf("%d MB of free memory", available>>10), err
}

// scale is one run.
type scale struct {
	*bench
	scalePlan
	*system
	gateways []*server
	clients  *crowd
	n        float64   // clients
	costs    costs     // what was measured, for the worksheet
	last     []float64 // seconds until the last client has a broadcast
}

// run connects the clients, measures what they cost, and returns the tables. It fails unless each
// client receives each message exactly once.
func (p scalePlan) run(ctx context.Context, log io.Writer) (text string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.budget, fmt.Errorf("the run is not done after %s", p.budget))
	defer cancel()
	s := &scale{bench: &bench{log: log, result: &result{}}, scalePlan: p,
		clients: &crowd{n: p.clients}, n: float64(p.clients), costs: costs{}}
	defer func() { err = errors.Join(err, s.close()) }()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"binaries", s.open},
		{"messages without gateways", s.storing},
		{"messages that no client wants", s.receiving},
		{"connections", s.connecting},
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

// spend is what NATS and all gateways spend during do; nats is the first of each.
func (s *scale) spend(do func() error) (used spent, gateways float64, err error) {
	of := []*process{s.nats.process}
	for _, v := range s.gateways {
		of = append(of, v.process)
	}
	if used, err = s.cost(do, of...); err == nil {
		gateways = used.sum - used.each[0].sum
	}
	return used, gateways, err
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

// unwanted publishes messages that no client wants, each by itself.
func (s *scale) unwanted(ctx context.Context) (nats, gateways float64, err error) {
	l := load{messages: s.load, perSecond: loadPerSecond, channel: func(int) string { return "public.nobody" }}
	used, gateways, err := s.spend(func() error { _, err := s.publish(ctx, l); return err })
	return used.sum - gateways, gateways, err
}

// storing measures what NATS does with a message that no gateway receives, and the size of the message.
func (s *scale) storing(ctx context.Context) (err error) {
	if s.system, err = s.startBroker(ctx, "2m"); err != nil {
		return err
	}
	store, _, err := s.unwanted(ctx)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(s.natsURL)
	if err != nil {
		return err
	}
	defer nc.Close()
	sub, err1 := nc.SubscribeSync(proto.SubjectLivePacks)
	err2 := nc.Flush()
	_, err3 := s.publish(ctx, to(everybody, 1))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	m, err := sub.NextMsg(30 * time.Second)
	if err == nil {
		s.costs["store"], s.costs["wire"] = store/float64(s.load), float64(m.Size())
	}
	return err
}

// receiving measures what a message costs that goes to all gateways and to no client.
func (s *scale) receiving(ctx context.Context) error {
	files := float64(socketsOfAProcess())
	gateways := s.scalePlan.gateways
	if gateways == 0 {
		gateways = max(2, int((s.n+files-1)/files))
	}
	for range gateways {
		a, err := freeAddresses(2)
		if err != nil {
			return err
		}
		p := s.gateway(setup{Listen: a[0], NATS: s.natsURL}, a[1], "-heartbeat", s.heartbeat.String())
		v, err := s.launch(ctx, p, a[0], "http://"+a[1], "http://"+a[0]+"/readyz")
		if err != nil {
			return err
		}
		s.gateways = append(s.gateways, v)
	}
	before, _, err := s.weigh(ctx)
	if err != nil {
		return err
	}
	nats, received, err := s.unwanted(ctx)
	if err != nil {
		return err
	}
	after, _, err := s.weigh(ctx)
	each := float64(s.load * gateways)
	s.costs["base"] = before.resident / float64(gateways)
	s.costs["recent"] = (after.live - before.live) / each
	s.costs["relay"] = (nats - s.costs["store"]*float64(s.load)) / each
	s.costs["receive"] = received / each
	return errors.Join(err, pause(ctx, s.rest))
}

// first is the number of the first client of a gateway.
func (s *scale) first(gateway int) int { return s.clients.n * gateway / len(s.gateways) }

// connecting connects all clients at once, each with an address of its own, to
// the channel that all follow and one of its own. Then nothing but heartbeats happens, and the runtime
// gives back the garbage of handshakes, at its own pace.
func (s *scale) connecting(ctx context.Context) error {
	for i, v := range s.gateways {
		some, err := s.startClients(group{dialect: native, Channel: everybody + "&channel=" + ownChannel, Share: 1,
			First: s.first(i), N: s.first(i+1) - s.first(i), Addr: v.addr, PerAddress: 1})
		if err != nil {
			return err
		}
		s.clients.parts = append(s.clients.parts, some.parts...)
	}
	without, kernelWithout, err := s.weigh(ctx)
	if err != nil {
		return err
	}
	_, came, err := s.spend(func() error { return s.clients.connect(ctx, "") })
	if err != nil {
		return err
	}
	var rush float64
	for _, v := range s.gateways {
		resident, e := rssOf(v.pid())
		rush, err = rush+resident, errors.Join(err, e)
	}
	before, err1 := s.clients.call(ctx, "Count", "")
	used, idle, err2 := s.spend(func() error { return pause(ctx, s.window) })
	after, err3 := s.clients.call(ctx, "Count", "")
	with, kernel, err4 := s.weigh(ctx)
	if err := errors.Join(err, err1, err2, err3, err4); err != nil {
		return err
	}
	pings := float64(after.Pings - before.Pings)
	if after.Connected != s.clients.n || pings < s.n {
		return fmt.Errorf("%d of %.0f clients are still there, and %.0f pings came within %s, want one for each at least",
			after.Connected, s.n, pings, s.window)
	}
	s.costs["shake"] = came / s.n
	s.costs["rush"] = (rush - without.resident) / s.n
	s.costs["idle"] = idle / used.took / s.n
	s.costs["beat"] = idle / pings
	s.costs["conn"] = (with.resident - without.resident) / s.n
	s.costs["live"] = (with.live - without.live) / s.n
	s.costs["kernel"] = (kernel - kernelWithout) / s.n / 2 // both ends of a connection are on this machine
	return nil
}

// broadcasting sends one message after the other to all, after one that is not measured. Each client must receive
// each once.
func (s *scale) broadcasting(ctx context.Context) error {
	for i := range s.broadcasts + 1 {
		var got Tally
		used, gateways, err := s.spend(func() (err error) {
			got, err = s.clients.receive(ctx, s.target, to(everybody, 1), 1)
			return err
		})
		if err != nil {
			return err
		}
		if i > 0 {
			s.costs["deliver"] += max(0, gateways-s.costs["idle"]*s.n*used.took) / s.n / float64(s.broadcasts)
			s.costs["frame"] = float64(got.Frame)
			s.last = append(s.last, got.Latency.percentile(1))
		}
	}
	return nil
}

// addressing sends messages to clients of one gateway, at most one to each: what it spends more than the others
// do in the same time is what a message costs that has a client.
func (s *scale) addressing(ctx context.Context) error {
	messages := min(s.load, s.first(1))
	channel := func(i int) string { return fmt.Sprintf("public.u%05d", i*(s.first(1)/messages)) }
	l := load{messages: messages, perSecond: loadPerSecond, channel: channel}
	if _, err := s.clients.call(ctx, "Reset", ""); err != nil {
		return err
	}
	var got Tally
	used, gateways, err := s.spend(func() (err error) {
		if _, err := s.publish(ctx, l); err != nil {
			return err
		}
		got, err = s.clients.until(ctx, deliveryTimeout, func(t *Tally) bool { return t.Messages >= int64(messages) })
		return err
	})
	if err == nil && got.Messages != int64(messages) {
		err = fmt.Errorf("of %d messages to one client each %d came", messages, got.Messages)
	}
	if err == nil {
		its := used.each[1].sum
		s.costs["single"] = (its - (gateways-its)/float64(len(s.gateways)-1)) / float64(messages)
	}
	return err
}

// markdown is both tables and what must be known about them.
func (s *scale) markdown() string {
	return fmt.Sprintf("`make scale N=%d`, %s: %s connections on %d gateways, held by %d processes; %d processors of %s, %s, "+
		"all on one machine over loopback, without TLS. Gateways as they ship, so at most 2000 connections per address: each client "+
		"has one of its own in 127.0.0.0/8, and two channels, one that all follow, one of its own. "+
		"Every client was counted to get every message, once; the last client had a broadcast after %.2f s (median). "+
		"The kernel's memory is half of what `Slab` in /proc/meminfo grew by, as both ends of each connection are here; "+
		"what waits in sockets is not among it. CPU of broadcasts is above that of sitting there. Other programs took %.0f %% "+
		"of the machine meanwhile (median), which makes CPU dearer, since caches are shared.\n\n%s\n"+
		"And what follows for a million:\n\n%s",
		s.clients.n, time.Now().UTC().Format(time.DateOnly), thousands(s.clients.n), len(s.gateways), len(s.clients.parts),
		runtime.NumCPU(), machine(), runtime.Version(), median(s.last), 100*median(s.result.foreign),
		s.costs.inputs(), s.costs.forecasts())
}
