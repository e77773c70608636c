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
	log     io.Writer // progress, a line each
	dir     string
	self    string     // this binary
	running []*process // all that were started and not killed yet
	result  *result
	round   int
}

// tools are the commands that a run builds into its folder.
var tools = map[string]string{
	"gateway":     "github.com/herald-push/herald/services/gateway/cmd/gateway",
	"ingest":      "github.com/herald-push/herald/services/ingest/cmd/ingest",
	"herald":      "github.com/herald-push/herald/services/allinone",
	"nats-server": "github.com/nats-io/nats-server/v2",
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
	for name, path := range tools {
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.path(name), path).CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", path, err, out)
		}
	}
	if err := writeCertificate(b.path("cert.pem"), b.path("key.pem")); err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	return nil
}

// close ends all processes and removes the folder.
func (b *bench) close() error {
	b.kill()
	return os.RemoveAll(b.dir)
}

func writeCertificate(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err1 := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	return errors.Join(err1, err2,
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
					c.takes != "" && !slices.Contains(strings.Fields(c.takes), p.name) || c.name == "node" && b.result.withoutNode != ""
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
	t := &trial{bench: b, scenario: s, of: c}
	if t.system, err = b.startSystem(ctx, c, s); err != nil {
		return err
	}
	if t.feed != nil {
		defer t.feed.Close()
	}
	if s.channel != "" {
		if t.clients, err = b.startClients(t.group(n, s.channel), s.parse); err != nil {
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

// cost is the CPU time of each of these processes during do, and do's wall time in seconds. It notes
// how much of the machine programs that are not of this run used meanwhile.
func (b *bench) cost(do func() error, of ...*process) (each []cpu, took float64, err error) {
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
	if err != nil {
		return nil, 0, err
	}
	begin := time.Now()
	if err := do(); err != nil {
		return nil, 0, err
	}
	took = time.Since(begin).Seconds()
	each, others, err := read()
	b.result.foreign = append(b.result.foreign, max(0, (others-others0)/took/float64(runtime.NumCPU())))
	for i := range each {
		each[i] = cpu{each[i].sum - before[i].sum, each[i].user - before[i].user}
	}
	return each, took, err
}
