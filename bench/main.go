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
}

// defaults are those of `make bench`.
func defaults() plan {
	return plan{sizes: []int{1000, 10000}, rounds: 3, budget: 9 * time.Minute, rate: 50_000, deliver: 120_000,
		pingEvery: 2 * time.Second, pingRounds: 3, rest: 4 * time.Second, settle: 500 * time.Millisecond}
}

// short is every step with a handful of clients, all of which count each message.
// Its figures say nothing.
func short() plan {
	return plan{sizes: []int{3, 20}, rounds: 1, rate: 4000, deliver: 200, pingEvery: time.Second, pingRounds: 1,
		settle: 50 * time.Millisecond}
}

func parsePlan(args []string, stderr io.Writer) (p plan, readme string, err error) {
	p = defaults()
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolFunc("short", "every step with a handful of clients, to see that all of it works; its figures say nothing",
		func(string) error { p = short(); return nil })
	f.Func("sizes", "numbers of clients (default 1000,10000)", func(list string) error {
		p.sizes = nil
		for s := range strings.SplitSeq(list, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(s))
			if most := socketsOfAProcess(); err != nil || n < 1 || n > most {
				return fmt.Errorf("%q is not a number from 1 to %d (a server's open files)", s, most)
			}
			p.sizes = append(p.sizes, n)
		}
		slices.Sort(p.sizes)
		return nil
	})
	f.Func("rounds", "rounds at most; figures are medians of them (default 3)", func(s string) (err error) {
		if p.rounds, err = strconv.Atoi(s); err == nil && p.rounds < 1 {
			err = fmt.Errorf("not positive")
		}
		return err
	})
	f.Func("only", "steps to take: "+strings.Join(stepNames(), ", ")+" (default all)", func(list string) error {
		p.only = strings.Split(list, ",")
		for _, name := range p.only {
			if !slices.Contains(stepNames(), name) {
				return fmt.Errorf("no step %q; there are %s", name, strings.Join(stepNames(), ", "))
			}
		}
		return nil
	})
	f.StringVar(&readme, "readme", "", "file to write the table into, between its marks")
	if err = f.Parse(args); err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q; bench -h lists the flags", f.Arg(0))
	}
	return p, readme, err
}

// socketsOfAProcess is the limit of open files, to which Go raises its own, less those that a process needs beside sockets.
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
