//go:build linux

// Command bench compares Herald with other servers: the chat example of gorilla/websocket, a server on Centrifugo's
// library, the Socket.IO server on Node, and a bare loop of write(2), which is the least that pushing can cost. It
// prints one table and, with -readme, writes it into that file.
//
// Every server is a process of its own and gets the same messages; the clients are other processes. Figures are the CPU
// time and the memory of processes, because wall time on a shared machine is noise. Within a round the servers are
// measured one after the other, so that other load on the machine affects all of them, and ratios are taken within a
// round.
//
// bench scale connects many clients to several gateways, measures what each thing costs, and computes from that what a
// million clients cost.
//
// It runs on Linux only: it reads /proc, and its clients use epoll.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the process: the comparison, bench scale, or one of the roles that bench starts this binary in, with a job as
// JSON.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1])
	case len(args) == 2 && args[0] == "clients":
		return serveClients(args[1], stdin, stdout)
	}
	p, err := parsePlan(args, stderr)
	if err != nil {
		return err
	}
	text, err := p.run(ctx, stderr)
	if err != nil {
		return err
	}
	return publishText(stdout, p.readme, p.mark, text)
}

// plan is what to measure, and how much of it.
type plan struct {
	mark   string // of the table in its file: "bench" is the comparison, "scale" is bench scale
	readme string // file to write the table into; empty: none
	budget time.Duration
	rest   time.Duration // until memory is measured: what was handed out for a moment is then given back
	settle time.Duration // memory has settled when it did not shrink for so long

	// The comparison.
	sizes      []int         // how many clients, ascending; some steps use the largest only
	rounds     int           // at most; none begins that would probably end after the budget
	only       []string      // steps by name; empty: all
	rate       int           // deliveries a second that are offered to a server
	deliver    int           // deliveries per measurement
	pingEvery  time.Duration // keepalive interval while pings are measured
	pingRounds int           // how many pings each client then gets

	// bench scale, which fails when it takes longer than the budget.
	clients    int           // 0: as many as this machine allows
	gateways   int           // at least two, which are compared; 0: as many as the limit of open files wants
	heartbeat  time.Duration // of the gateways
	window     time.Duration // for which all are idle: two heartbeats, so that each client gets one at least
	broadcasts int           // messages to all clients, one after the other
	load       int           // messages to one client each, or to none
}

// defaults are those of `make bench`.
func defaults() plan {
	return plan{mark: "bench", sizes: []int{1000, 10000}, rounds: 3, budget: 11 * time.Minute, rate: 50_000,
		deliver:   120_000,
		pingEvery: 2 * time.Second, pingRounds: 3, rest: 4 * time.Second, settle: 500 * time.Millisecond}
}

// short is every step with a handful of clients, all of which count each message. Its figures say nothing.
func short() plan {
	return plan{mark: "bench", sizes: []int{3, 20}, rounds: 1, rate: 4000, deliver: 200, pingEvery: time.Second,
		pingRounds: 1, settle: 50 * time.Millisecond}
}

// scaleDefaults are those of `make scale`; the heartbeat is the gateway's own default. After the rest NATS has dropped
// its cache of what it just stored.
func scaleDefaults() plan {
	return plan{mark: "scale", clients: 60_000, heartbeat: 25 * time.Second, window: 50 * time.Second, broadcasts: 5,
		load: 12_000, rest: 12 * time.Second, settle: 500 * time.Millisecond, budget: 10 * time.Minute}
}

func parsePlan(args []string, stderr io.Writer) (p plan, err error) {
	p = defaults()
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	if len(args) > 0 && args[0] == "scale" {
		p, args = scaleDefaults(), args[1:]
		f.IntVar(&p.clients, "n", p.clients, "connections; 0: as many as this machine lets")
	} else {
		f.BoolFunc("short", "every step with a handful of clients, to see that it works; its figures say nothing",
			func(string) error { p = short(); return nil })
		f.Func("sizes", "numbers of clients (default 1000,10000)", p.setSizes)
		f.IntVar(&p.rounds, "rounds", p.rounds, "rounds at most; figures are medians of them")
		f.Func("only", "steps to take: "+strings.Join(stepNames(), ", ")+" (default all)", func(list string) error {
			p.only = strings.Split(list, ",")
			return nil
		})
	}
	f.SetOutput(stderr)
	f.StringVar(&p.readme, "readme", "", "file to write the table into, between its marks")
	err = f.Parse(args)
	unknown := slices.IndexFunc(p.only, func(name string) bool { return !slices.Contains(stepNames(), name) })
	switch {
	case err != nil:
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q; -h lists the flags", f.Arg(0))
	case p.rounds < 1 && p.mark == "bench" || p.clients < 0:
		err = fmt.Errorf("%d rounds, %d connections: want one round at least, and no negative number",
			p.rounds, p.clients)
	case unknown >= 0:
		err = fmt.Errorf("no step %q; there are %s", p.only[unknown], strings.Join(stepNames(), ", "))
	}
	return p, err
}

func (p *plan) setSizes(list string) error {
	p.sizes = nil
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if most := socketsOfAProcess(); err != nil || n < 1 || n > most {
			return fmt.Errorf("%q is not a number from 1 to %d (a server's open files)", s, most)
		}
		p.sizes = append(p.sizes, n)
	}
	slices.Sort(p.sizes)
	return nil
}

// socketsOfAProcess is the limit of open files, to which Go raises its own, less those that a process needs beside
// sockets.
func socketsOfAProcess() int {
	var l syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) // of this process it cannot fail
	return int(min(l.Cur, 1<<20)) - 200
}

// publishText prints text and, if readme is not empty, writes it into that file, which must be there, between the two
// marks of this name.
func publishText(stdout io.Writer, readme, name, text string) error {
	fmt.Fprintln(stdout, text)
	if readme == "" {
		return nil
	}
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	b, err := os.ReadFile(readme)
	before, rest, ok1 := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if err == nil && !(ok1 && ok2) {
		err = fmt.Errorf("%s has no marks %s%s", readme, begin, end)
	}
	if err == nil {
		err = os.WriteFile(readme, []byte(before+begin+strings.TrimSpace(text)+"\n"+end+after), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	return nil
}

// bench is one run: a folder, the binaries, the processes, and what was measured.
type bench struct {
	plan
	log     io.Writer // progress, a line each
	dir     string
	self    string     // this binary
	running []*process // all that were started and not killed yet
	result  *result
	round   int
}

// tools are the commands that a run builds into its folder.
var tools = []string{
	"github.com/herald-push/herald/services/gateway/cmd/gateway",
	"github.com/herald-push/herald/services/ingest/cmd/ingest",
	"github.com/herald-push/herald/services/allinone",
	"github.com/nats-io/nats-server/v2",
}

// run measures everything that the plan says, and returns the tables.
func (p plan) run(ctx context.Context, log io.Writer) (string, error) {
	b := &bench{plan: p, log: log, result: &result{plan: p}}
	measure, text := b.compare, b.result.markdown
	if p.mark == "scale" {
		s := &scale{bench: b, costs: costs{}}
		measure, text = s.measure, s.markdown
	}
	var err error
	b.result.foreign = foreign(func() {
		err = measure(ctx)
		b.kill()
	})
	if err := errors.Join(err, os.RemoveAll(b.dir)); err != nil {
		return "", err
	}
	return text(), nil
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// open makes the folder of the run, builds the binaries and makes a certificate.
func (b *bench) open(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "herald-bench-*"); err != nil {
		return fmt.Errorf("folder of the run: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	build := exec.CommandContext(ctx, "go", append([]string{"build", "-o", b.dir + "/"}, tools...)...)
	certify := exec.CommandContext(ctx, "sh", "-c",
		`go run "$(go env GOROOT)/src/crypto/tls/generate_cert.go" -ecdsa-curve P256 -host 127.0.0.1`)
	certify.Dir = b.dir
	for _, c := range []*exec.Cmd{build, certify} {
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", c, err, out)
		}
	}
	return nil
}

// compare performs all scenarios, round by round.
func (b *bench) compare(ctx context.Context) error {
	if err := errors.Join(b.open(ctx), b.installNode(ctx)); err != nil {
		return err
	}
	begin, longest := time.Now(), time.Duration(0)
	for b.round = range b.rounds {
		if b.round > 0 && time.Since(begin)+longest > b.budget {
			break
		}
		round := time.Now()
		for _, s := range scenarios {
			b.perform(ctx, s)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		b.result.rounds++
		longest = max(longest, time.Since(round))
		fmt.Fprintf(b.log, "round %d of %d took %.0f s\n", b.round+1, b.rounds, time.Since(round).Seconds())
	}
	return nil
}

// perform runs one scenario of this round: for each size, with each candidate. Every round begins with another
// candidate. A failure is written below the table, and the run goes on.
func (b *bench) perform(ctx context.Context, s scenario) {
	for _, n := range b.sizes {
		for i := range candidates {
			c := candidates[(b.round+i)%len(candidates)]
			steps := slices.DeleteFunc(slices.Clone(s.steps), func(p step) bool {
				return len(b.only) > 0 && !slices.Contains(b.only, p.name) || !p.each && n != slices.Max(b.sizes) ||
					c.steps != "" && !slices.Contains(strings.Fields(c.steps), p.name) ||
					c.name == "node" && b.result.withoutNode != ""
			})
			if len(steps) == 0 || ctx.Err() != nil {
				continue
			}
			n := min(n, cmp.Or(s.most, n))
			if err := b.try(ctx, c, s, n, steps); err != nil {
				b.result.failures = append(b.result.failures, fmt.Sprintf("%s with %d clients: %v", c.name, n, err))
				fmt.Fprintln(b.log, " ", c.name, err)
			}
		}
	}
}

// try starts a candidate and n clients for it, performs the steps, and ends everything.
func (b *bench) try(ctx context.Context, c *candidate, s scenario, n int, steps []step) (err error) {
	defer b.kill()
	t := &trial{bench: b, scenario: s, of: c, clients: &crowd{}}
	if t.system, err = b.startSystem(ctx, c, s); t.system != nil && t.feed != nil {
		defer t.feed.Close()
	}
	if err == nil && s.channel != "" {
		t.clients, err = b.startClients(t.group(n, s.channel))
		if err == nil && !steps[0].connects {
			err = t.clients.connect(ctx, "")
		}
	}
	for _, p := range steps {
		if err == nil {
			err = p.do(ctx, t)
		}
	}
	return err
}
