//go:build linux

// Command bench compares Herald's gateway with three other servers: the chat
// example of gorilla/websocket, a server on Centrifugo's library, and a bare
// loop of write(2), which is the least that pushing can cost. It prints one
// table and, with -readme, writes it into that file.
//
// Every candidate is a process of its own and receives the same messages from
// the same NATS; the clients are other processes. Figures are the CPU time and
// the memory of the candidate's process, as wall time on a shared machine is
// noise. Within a round the candidates are measured one after the other, so that
// other load on the machine affects all of them, and ratios are taken within a
// round.
//
// bench scale connects many clients to several gateways, measures what each
// thing costs, and computes from that what a million clients cost.
//
// It runs on Linux only: it reads /proc, and its clients use epoll.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
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

// roles are the other processes that this binary starts of itself, by their first
// argument. The second is their job as JSON.
var roles = map[string]func(ctx context.Context, job string, stdin io.Reader, stdout io.Writer) error{
	"serve": serve, "clients": serveClients, "post": post,
}

// run is the process: the comparison, bench scale, or one of the roles.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	raiseOpenFiles()
	if len(args) > 1 {
		if role := roles[args[0]]; role != nil {
			return role(ctx, args[1], stdin, stdout)
		}
	}
	if len(args) > 0 && args[0] == "scale" {
		return scaleCommand(ctx, args[1:], stdout, stderr)
	}
	p, readme, err := parsePlan(args, stderr)
	if err != nil {
		return err
	}
	r, err := p.run(ctx, stderr)
	if err != nil {
		return err
	}
	return publishText(stdout, readme, "bench", r.markdown())
}

// publishText prints text and, if readme is not empty, writes it into that file
// between the marks of this name.
func publishText(stdout io.Writer, readme, name, text string) error {
	fmt.Fprintln(stdout, text)
	if readme == "" {
		return nil
	}
	return writeBetween(readme, name, text)
}

// plan is what to measure, and how much of it.
type plan struct {
	sizes      []int         // how many clients, ascending; some scenarios use the largest only
	rounds     int           // at most
	budget     time.Duration // no round begins that would probably end after it
	only       []string      // scenarios by name; empty: all
	rate       int           // deliveries a second that are offered to a candidate
	deliver    int           // deliveries per measurement
	pingEvery  time.Duration // keepalive interval while pings are measured
	pingRounds int           // how many pings each client then gets
	profile    time.Duration // how long a load is profiled, in whole seconds
	rest       time.Duration // from the last handshake until memory is measured
	settle     time.Duration // memory has settled when it did not shrink for so long
	every      bool          // every client parses what it receives
}

// defaults are those of `make bench`.
func defaults() plan {
	return plan{sizes: []int{100, 1000, 10000}, rounds: 3, budget: 9 * time.Minute, rate: 50_000, deliver: 120_000,
		pingEvery: 2 * time.Second, pingRounds: 3, profile: 2 * time.Second, rest: 4 * time.Second,
		settle: 500 * time.Millisecond}
}

func parsePlan(args []string, stderr io.Writer) (p plan, readme string, err error) {
	p = defaults()
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	sizes := f.String("sizes", "100,1000,10000", "numbers of clients")
	f.IntVar(&p.rounds, "rounds", p.rounds, "rounds; figures are medians of them")
	f.DurationVar(&p.budget, "budget", p.budget, "begin no round that would probably end after this")
	only := f.String("only", "", "scenarios to run: "+strings.Join(scenarioNames(), ", ")+"; empty: all")
	f.StringVar(&readme, "readme", "", "file to write the table into, between its marks")
	if err := f.Parse(args); err != nil {
		return p, "", err
	}
	if f.NArg() > 0 {
		return p, "", fmt.Errorf("unexpected argument %q; bench -h lists the flags", f.Arg(0))
	}
	p.sizes = nil
	for s := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if most := socketsOfAProcess(); err != nil || n < 1 || n > most {
			return p, "", fmt.Errorf("sizes: %q is not a number from 1 to %d (a server's open files)", s, most)
		}
		p.sizes = append(p.sizes, n)
	}
	slices.Sort(p.sizes)
	if p.rounds < 1 {
		return p, "", fmt.Errorf("rounds: %d is not positive", p.rounds)
	}
	if *only != "" {
		p.only = strings.Split(*only, ",")
	}
	for _, name := range p.only {
		if !slices.Contains(scenarioNames(), name) {
			return p, "", fmt.Errorf("only: no scenario %q; there are %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	return p, readme, nil
}

// raiseOpenFiles lifts the soft limit of open files to the hard one.
func raiseOpenFiles() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l) // else the lower limit stays, which sizes are checked against
	}
}

// openFiles is how many files a process may have open.
func openFiles() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 1024
	}
	return int(min(l.Cur, 1<<20))
}

// socketsOfAProcess is openFiles less those that a process needs beside sockets.
func socketsOfAProcess() int { return openFiles() - 200 }
