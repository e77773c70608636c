//go:build linux

// Command bench compares Herald with other servers: the chat example of
// gorilla/websocket, a server on Centrifugo's library, the Socket.IO server on
// Node, and a bare loop of write(2), which is the least that pushing can cost. It
// prints one table and, with -readme, writes it into that file.
//
// Every server is a process of its own and gets the same messages; the clients are
// other processes. Figures are the CPU time and the memory of processes, because
// wall time on a shared machine is noise. Within a round the servers are
// measured one after the other, so that other load on the machine affects all of
// them, and ratios are taken within a round.
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

// run is the process: the comparison, bench scale, or one of the roles that bench
// starts this binary in, with a job as JSON.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	raiseOpenFiles()
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1])
	case len(args) == 2 && args[0] == "clients":
		return serveClients(args[1], stdin, stdout)
	case len(args) > 0 && args[0] == "scale":
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

// plan is what to measure, and how much of it.
type plan struct {
	sizes      []int         // how many clients, ascending; some steps use the largest only
	rounds     int           // at most
	budget     time.Duration // no round begins that would probably end after it
	only       []string      // steps by name; empty: all
	rate       int           // deliveries a second that are offered to a server
	deliver    int           // deliveries per measurement
	pingEvery  time.Duration // keepalive interval while pings are measured
	pingRounds int           // how many pings each client then gets
	rest       time.Duration // from the last handshake until memory is measured
	settle     time.Duration // memory has settled when it did not shrink for so long
	samples    int           // about how many clients parse what they receive
}

// defaults are those of `make bench`.
func defaults() plan {
	return plan{sizes: []int{1000, 10000}, rounds: 3, budget: 9 * time.Minute, rate: 50_000, deliver: 120_000,
		pingEvery: 2 * time.Second, pingRounds: 3, rest: 4 * time.Second, settle: 500 * time.Millisecond, samples: 16}
}

// short is every step with a handful of clients, all of which count each message.
// Its figures say nothing.
func short() plan {
	p := defaults()
	p.sizes, p.rounds, p.rate, p.deliver, p.samples = []int{3, 20}, 1, 4000, 200, 1<<30
	p.pingEvery, p.pingRounds, p.rest, p.settle = time.Second, 1, 0, p.settle/10
	return p
}

func parsePlan(args []string, stderr io.Writer) (p plan, readme string, err error) {
	p = defaults()
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	tiny := f.Bool("short", false, "every step with a handful of clients, to see that all of it works; its figures say nothing")
	sizes := f.String("sizes", "1000,10000", "numbers of clients")
	f.IntVar(&p.rounds, "rounds", p.rounds, "rounds; figures are medians of them")
	f.DurationVar(&p.budget, "budget", p.budget, "begin no round that would probably end after this")
	only := f.String("only", "", "steps to take: "+strings.Join(stepNames(), ", ")+"; empty: all")
	f.StringVar(&readme, "readme", "", "file to write the table into, between its marks")
	if err := f.Parse(args); err != nil {
		return p, "", err
	}
	if f.NArg() > 0 {
		return p, "", fmt.Errorf("unexpected argument %q; bench -h lists the flags", f.Arg(0))
	}
	if *tiny {
		p = short()
	} else if p.sizes, err = parseSizes(*sizes); err != nil {
		return p, "", err
	}
	if p.rounds < 1 {
		return p, "", fmt.Errorf("rounds: %d is not positive", p.rounds)
	}
	if *only != "" {
		p.only = strings.Split(*only, ",")
	}
	for _, name := range p.only {
		if !slices.Contains(stepNames(), name) {
			return p, "", fmt.Errorf("only: no step %q; there are %s", name, strings.Join(stepNames(), ", "))
		}
	}
	return p, readme, nil
}

func parseSizes(list string) (sizes []int, err error) {
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if most := socketsOfAProcess(); err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("sizes: %q is not a number from 1 to %d (a server's open files)", s, most)
		}
		sizes = append(sizes, n)
	}
	slices.Sort(sizes)
	return sizes, nil
}

// raiseOpenFiles lifts the soft limit of open files to the hard one.
func raiseOpenFiles() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l) // else the lower limit stays, which sizes are checked against
	}
}

// socketsOfAProcess is the limit of open files, less those that a process needs beside sockets.
func socketsOfAProcess() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 800
	}
	return int(min(l.Cur, 1<<20)) - 200
}

// publishText prints text and, if readme is not empty, writes it into that file, which
// must be there, between the two marks of this name.
func publishText(stdout io.Writer, readme, name, text string) error {
	fmt.Fprintln(stdout, text)
	if readme == "" {
		return nil
	}
	begin, end := "<!-- "+name+":begin -->", "<!-- "+name+":end -->"
	b, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("write the tables: %s has no marks %s and %s", readme, begin, end)
	}
	if err := os.WriteFile(readme, []byte(before+begin+"\n"+strings.TrimSpace(text)+"\n"+end+after), 0o644); err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	return nil
}
