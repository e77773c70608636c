//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

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

// path is where a file of the run is.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// open builds the binaries and makes a certificate. The caller calls close, also after an error.
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

// close ends all processes and removes the folder.
func (b *bench) close() error {
	b.kill()
	return os.RemoveAll(b.dir)
}

// run measures everything that the plan says.
func (p plan) run(ctx context.Context, log io.Writer) (r *result, err error) {
	begin, longest := time.Now(), time.Duration(0)
	b := &bench{plan: p, log: log, result: &result{plan: p}}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := errors.Join(b.open(ctx), b.installNode(ctx)); err != nil {
		return nil, err
	}
	for b.round = range p.rounds {
		if b.round > 0 && time.Since(begin)+longest > p.budget {
			break
		}
		round := time.Now()
		for _, s := range scenarios {
			if err := b.perform(ctx, s); err != nil {
				return nil, err
			}
		}
		b.result.rounds++
		longest = max(longest, time.Since(round))
		fmt.Fprintf(log, "round %d of %d took %.0f s\n", b.round+1, p.rounds, time.Since(round).Seconds())
	}
	return b.result, nil
}

// perform runs one scenario of this round: for each size, with each candidate. Every
// round begins with another candidate.
func (b *bench) perform(ctx context.Context, s scenario) error {
	largest := b.sizes[len(b.sizes)-1]
	for _, n := range b.sizes {
		for i := range candidates {
			c := candidates[(b.round+i)%len(candidates)]
			steps := slices.DeleteFunc(slices.Clone(s.steps), func(p step) bool {
				return len(b.only) > 0 && !slices.Contains(b.only, p.name) || !p.each && n != largest ||
					c.takes != "" && !slices.Contains(strings.Fields(c.takes), p.name) ||
					c.name == "node" && b.result.withoutNode != ""
			})
			if len(steps) == 0 {
				continue
			}
			n := min(n, cmp.Or(s.most, n))
			if err := b.try(ctx, c, s, n, steps); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				failure := fmt.Sprintf("%s with %d clients: %v", c.name, n, err)
				fmt.Fprintln(b.log, " ", failure)
				b.result.failures = append(b.result.failures, failure) // written below the table, and the run goes on
			}
		}
	}
	return nil
}

// try starts a candidate and n clients for it, takes the steps, and ends everything.
func (b *bench) try(ctx context.Context, c *candidate, s scenario, n int, steps []step) (err error) {
	defer b.kill()
	t := &trial{bench: b, scenario: s, of: c, clients: &crowd{}}
	if t.system, err = b.startSystem(ctx, c, s); t.system != nil && t.feed != nil {
		defer t.feed.Close()
	}
	if err != nil {
		return err
	}
	if s.channel != "" {
		if t.clients, err = b.startClients(t.group(n, s.channel)); err != nil {
			return err
		}
		if !steps[0].connects {
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

// spent is CPU time of processes, and the wall time in which it was, in seconds.
type spent struct {
	cpu        // of all
	each []cpu // of each
	took float64
}

// cost is what these processes spend during do. It notes how much of the machine programs that are not of this run
// used meanwhile.
func (b *bench) cost(do func() error, of ...*process) (used spent, err error) {
	read := func() (each []cpu, others float64, err error) {
		pids := []int{os.Getpid()}
		for _, p := range append(slices.Clone(b.running), of...) {
			pids = append(pids, p.pid())
		}
		others = machineBusy()
		for i, pid := range pids {
			c, e := cpuOf(pid)
			if err = errors.Join(err, e); i > len(b.running) {
				each = append(each, c)
			} else {
				others -= c.sum
			}
		}
		return each, others, err
	}
	before, others0, err := read()
	begin := time.Now()
	if err == nil {
		err = do()
	}
	if err != nil {
		return used, err
	}
	used.took = time.Since(begin).Seconds()
	after, others, err := read()
	b.result.foreign = append(b.result.foreign, max(0, (others-others0)/used.took/float64(runtime.NumCPU())))
	for i, c := range after {
		c = cpu{c.sum - before[i].sum, c.user - before[i].user}
		used.each, used.cpu = append(used.each, c), cpu{used.sum + c.sum, used.user + c.user}
	}
	return used, err
}
