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
	"strings"
	"time"
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
