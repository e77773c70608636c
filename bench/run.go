//go:build linux

package main

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
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
	log           io.Writer // progress, a line each
	dir           string
	self          string            // this binary
	binary        map[string]string // of the others, by name
	cert, certKey string            // PEM files
	running       []*process        // all that were started and not killed yet
	result        *result
	round         int
}

// tools are the commands that a run builds.
var tools = map[string]string{
	"gateway":     "github.com/herald-push/herald/services/gateway/cmd/gateway",
	"ingest":      "github.com/herald-push/herald/services/ingest/cmd/ingest",
	"herald":      "github.com/herald-push/herald/services/allinone",
	"nats-server": "github.com/nats-io/nats-server/v2",
}

// open builds the binaries and makes a certificate. The caller calls close, also after an error.
func (b *bench) open(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "herald-bench-*"); err != nil {
		return fmt.Errorf("folder of the run: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	b.binary = map[string]string{}
	for name, path := range tools {
		b.binary[name] = filepath.Join(b.dir, name)
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.binary[name], path).CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", path, err, out)
		}
	}
	b.cert, b.certKey = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")
	if err := writeCertificate(b.cert, b.certKey); err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	return nil
}

// close ends all processes and removes the folder.
func (b *bench) close() error {
	b.kill(slices.Clone(b.running)...)
	return os.RemoveAll(b.dir)
}

func writeCertificate(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err1 := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
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
		fmt.Fprintf(log, "round %d of %d\n", b.round+1, p.rounds)
		for _, s := range scenarios {
			if err := b.perform(ctx, s); err != nil {
				return nil, err
			}
		}
		b.result.rounds++
		longest = max(longest, time.Since(round))
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
				return len(b.only) > 0 && !slices.Contains(b.only, p.name) || p.largest && n != largest ||
					c.takes != "" && !slices.Contains(strings.Fields(c.takes), p.name) || c.name == "node" && b.result.withoutNode != ""
			})
			if len(steps) == 0 {
				continue
			}
			began := time.Now()
			if err := b.try(ctx, c, s, min(n, cmp.Or(s.most, n)), steps); err != nil {
				return err
			}
			fmt.Fprintf(b.log, "  %-16s %.1f s\n", c.name, time.Since(began).Seconds())
		}
	}
	return nil
}

// try starts a candidate and n clients for it, takes the steps, and ends everything. An error of
// a step is written below the table, and the run goes on.
func (b *bench) try(ctx context.Context, c *candidate, s scenario, n int, steps []step) error {
	defer func() { b.kill(slices.Clone(b.running)...) }()
	sys, err := b.startSystem(ctx, c, s)
	if err != nil {
		return err
	}
	t := &trial{bench: b, system: sys, scenario: s, of: c, clients: &crowd{}}
	if sys.feed != nil {
		defer sys.feed.Close()
	}
	if s.channel != "" {
		if t.clients, err = b.startClients(t.group(n, s.channel), s.parse); err != nil {
			return err
		}
		if !steps[0].connects {
			_, err = t.clients.connect(ctx, "")
		}
	}
	for _, p := range steps {
		if err == nil {
			err = p.do(ctx, t)
		}
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	failure := fmt.Sprintf("%s with %d clients: %v", c.name, n, err)
	fmt.Fprintln(b.log, " ", failure)
	b.result.failures = append(b.result.failures, failure)
	return nil
}

// cost is the CPU time of each group of processes during do, and do's wall time. It notes
// how much of the machine programs that are not of this run used meanwhile.
func (b *bench) cost(do func() error, groups ...[]*process) ([]cpu, time.Duration, error) {
	read := func() (each []cpu, ours float64, err error) {
		pids := []int{os.Getpid()}
		for _, p := range b.running {
			pids = append(pids, p.pid())
		}
		spent := map[int]cpu{}
		for _, pid := range pids {
			c, e := cpuOf(pid)
			spent[pid], ours, err = c, ours+c.sum(), errors.Join(err, e)
		}
		each = make([]cpu, len(groups))
		for i, group := range groups {
			for _, p := range group {
				each[i] = each[i].plus(spent[p.pid()])
			}
		}
		return each, ours, err
	}
	before, ours0, err := read()
	if err != nil {
		return nil, 0, err
	}
	busy, begin := machineBusy(), time.Now()
	if err := do(); err != nil {
		return nil, 0, err
	}
	took := time.Since(begin)
	after, ours1, err := read()
	foreign := (machineBusy() - busy - (ours1 - ours0)) / took.Seconds() / float64(runtime.NumCPU())
	b.result.foreign = append(b.result.foreign, max(0, foreign))
	for i := range after {
		after[i] = after[i].minus(before[i])
	}
	return after, took, err
}
