//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// scalePlan is how many connections to hold, and what to do with them.
type scalePlan struct {
	clients    int           // 0: as many as this machine lets
	gateways   int           // at least two; 0: as many as the limit of open files wants
	heartbeat  time.Duration // of the gateways; 0: as they ship, 25 s
	window     time.Duration // for which all only sit there: two heartbeats, so that each client gets one at least
	broadcasts int           // messages that all get, one after the other
	load       int           // messages of which nobody, or one client, gets each
	rest       time.Duration // after which NATS has forgotten what it just stored
	settle     time.Duration // for which memory must not shrink, to count as settled
	budget     time.Duration // the run fails when it takes longer
	reason     string        // the limit that made clients less than what was asked for
}

// scaleDefaults are those of `make scale`.
func scaleDefaults() scalePlan {
	return scalePlan{clients: 60_000, window: 50 * time.Second, broadcasts: 5, load: 12_000, rest: 12 * time.Second, settle: 500 * time.Millisecond, budget: 10 * time.Minute}
}

// loadPerSecond is the pace of the load: so slow that each message is handled by
// itself. At a higher one several share a wake-up, and each costs less.
const loadPerSecond = 2000

// leastClients are enough for each block to have one of each gateway.
const leastClients = 50

// lonelySockets are enough to measure one.
const lonelySockets = 10_000

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
	b, err := p.run(ctx, stderr)
	if err != nil {
		return err
	}
	text := b.markdown()
	fmt.Fprintln(stdout, text)
	if readme == "" {
		return nil
	}
	return writeBetween(readme, scaleBegin, scaleEnd, text)
}

// scale is one run. Whatever it starts ends with it.
type scale struct {
	*bench
	scalePlan
	nats     *server // as a process to measure, with a profiler
	gateways []*server
	clients  *crowd
	unhook   func() bool // the clients from the end of the run's time
	bill     *bill
}

// run holds the connections and measures what they cost. It fails unless each
// client gets each message exactly once.
func (p scalePlan) run(ctx context.Context, log io.Writer) (_ *bill, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.budget, fmt.Errorf("the run is not done after %s", p.budget))
	defer cancel()
	common := plan{settle: p.settle, every: true}
	s := &scale{bench: &bench{plan: common, log: log, result: newResult(common), broker: &broker{}}, scalePlan: p, clients: &crowd{}, unhook: func() bool { return true }}
	if s.dir, err = os.MkdirTemp("", "herald-scale-*"); err != nil {
		return nil, fmt.Errorf("folder of the run: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	defer s.broker.stop()
	defer s.leave()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"binaries", s.prepare},
		{"NATS and ingest", s.startNATS},
		{"gateways", s.startGateways},
		{"messages that no client wants", s.receiving},
		{"NATS rests", s.resting},
		{"connections", s.connecting},
		{"everybody sits there", s.sitting},
		{"memory", s.weighing},
		{"broadcasts", s.broadcasting},
		{"messages to one client each", s.trickling},
	} {
		begin := time.Now()
		if err := step.do(ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx) // err is what came of it
			}
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Fprintf(log, "  %-30s %.1f s\n", step.what, time.Since(begin).Seconds())
	}
	s.bill.foreign = median(s.result.foreign)
	return s.bill, nil
}

func (s *scale) startNATS(ctx context.Context) error {
	most := openFiles() - spareFiles
	if s.scalePlan.gateways == 0 {
		s.scalePlan.gateways = max(2, (s.scalePlan.clients+most-1)/most)
	}
	s.bill = &bill{plan: s.scalePlan}
	if err := s.startBroker(ctx); err != nil {
		return err
	}
	s.nats = &server{process: s.broker.nats, base: s.broker.pprof, ops: s.broker.pprof, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	return nil
}

// shipped is the gateway with its default settings, the limit of connections per
// address among them: each client has an address of its own.
var shipped = &candidate{name: "gateway", operators: true, command: func(b *bench, s setup) (string, []string) {
	args := []string{"-listen", s.addr, "-ops-listen", s.ops, "-nats", b.broker.url, "-log-level", "warn"}
	if s.ping > 0 {
		args = append(args, "-heartbeat", s.ping.String())
	}
	return b.gateway, args
}}

func (s *scale) startGateways(ctx context.Context) error {
	for range s.scalePlan.gateways {
		v, err := shipped.start(ctx, s.bench, setup{ping: s.heartbeat})
		if err != nil {
			return err
		}
		s.gateways = append(s.gateways, v)
	}
	all, err := s.resident(ctx)
	s.bill.base = all / float64(len(s.gateways))
	return err
}

// leave ends all clients, then the gateways.
func (s *scale) leave() {
	_, _ = s.clients.obey(order{Do: "drop"}) // a reset leaves no port behind; then they end in any case
	s.clients.dismiss()
	s.unhook()
	for _, v := range s.gateways {
		v.kill()
	}
}

// resident is the memory of all gateways after garbage collection.
func (s *scale) resident(ctx context.Context) (all float64, err error) {
	for _, v := range s.gateways {
		rss, err := v.settle(ctx, s.scalePlan.settle)
		if err != nil {
			return 0, err
		}
		all += float64(rss)
	}
	return all, nil
}

// spend is the CPU time of the gateways and of NATS during do.
func (s *scale) spend(do func() error) (share, time.Duration, error) {
	var gateways []*process
	for _, v := range s.gateways {
		gateways = append(gateways, v.process)
	}
	each, took, err := s.spentEach([][]*process{gateways, {s.broker.nats}}, s.clients, do)
	if err != nil {
		return share{}, 0, err
	}
	return share{each[0], each[1]}, took, nil
}

// state is what NATS says of itself.
type state struct {
	Subscriptions int `json:"subscriptions"`
}

func (s *scale) state(ctx context.Context) (v state, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.broker.varz, nil)
	if err != nil {
		return v, err
	}
	resp, err := s.nats.http.Do(req)
	if err != nil {
		return v, fmt.Errorf("state of NATS: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("state of NATS: %w", err)
	}
	return v, nil
}
