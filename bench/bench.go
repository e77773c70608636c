//go:build linux

package main

import (
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
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// bench is one run: a folder, the binaries, the broker, and what was measured.
type bench struct {
	plan
	log       io.Writer // says how far it is
	dir       string
	self      string // this binary
	gateway   string
	ingest    string
	single    string // herald, all in one
	natsd     string
	cert, key string // PEM files
	broker    *broker
	result    *result
	round     int
}

// run measures everything that the plan says.
func (p plan) run(ctx context.Context, log io.Writer) (r *result, err error) {
	begin, longest := time.Now(), time.Duration(0)
	b := &bench{plan: p, log: log, result: newResult(p), broker: &broker{}}
	if b.dir, err = os.MkdirTemp("", "herald-bench-*"); err != nil {
		return nil, fmt.Errorf("folder of the run: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	defer b.broker.stop()
	if err := b.startBroker(ctx); err != nil {
		return nil, err
	}
	for b.round = range p.rounds {
		if b.round > 0 && time.Since(begin)+longest > p.budget {
			break
		}
		round := time.Now()
		fmt.Fprintf(log, "round %d of %d\n", b.round+1, p.rounds)
		for _, s := range scenarios() {
			if !b.wants(s.names...) {
				continue
			}
			if err := s.run(ctx, b); err != nil {
				return nil, err
			}
		}
		b.result.rounds++
		longest = max(longest, time.Since(round))
	}
	return b.result, nil
}

// wants reports whether one of these scenarios is to run.
func (b *bench) wants(names ...string) bool {
	return len(b.only) == 0 || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(b.only, n) })
}

// prepare builds the binaries and makes a certificate.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	for _, t := range []struct {
		into       *string
		name, path string
	}{
		{&b.gateway, "gateway", "github.com/herald-push/herald/services/gateway/cmd/gateway"},
		{&b.ingest, "ingest", "github.com/herald-push/herald/services/ingest/cmd/ingest"},
		{&b.single, "herald", "github.com/herald-push/herald/services/allinone"},
		{&b.natsd, "nats-server", "github.com/nats-io/nats-server/v2"},
	} {
		if *t.into, err = build(ctx, b.dir, t.name, t.path); err != nil {
			return err
		}
	}
	b.cert, b.key = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")
	return writeCertificate(b.cert, b.key)
}

func writeCertificate(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err1 := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	return errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// turns are the candidates, each round from another one on.
func (b *bench) turns() []*candidate {
	first := b.round % len(candidates)
	return slices.Concat(candidates[first:], candidates[:first])
}

// largest is the number of clients where only one is measured.
func (b *bench) largest() int { return b.sizes[len(b.sizes)-1] }

// session starts a candidate, and processes for n clients of it that are not
// connected yet, calls do, and ends them all. What goes wrong in do is told below
// the table, and the run goes on.
func (b *bench) session(ctx context.Context, c *candidate, s setup, n int, channel string, all bool, do func(v *server, clients *crowd) error) error {
	v, err := c.start(ctx, b, s)
	if err != nil {
		return err
	}
	defer v.kill()
	clients, err := b.muster(v.squad(n, channel, s.tls), all)
	if err != nil {
		return err
	}
	defer clients.dismiss()
	if err := do(v, clients); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		said := fmt.Sprintf("%s with %d clients: %v", c.name, n, err)
		fmt.Fprintln(b.log, " ", said, v.tail())
		b.result.failures = append(b.result.failures, said)
	}
	return nil
}

// spent is the server's CPU time during do, and do's wall time. It notes
// what else the machine did meanwhile.
func (b *bench) spent(servers []*process, clients *crowd, do func() error) (cpu, time.Duration, error) {
	each, took, err := b.spentEach([][]*process{servers}, clients, do)
	if err != nil {
		return cpu{}, 0, err
	}
	return each[0], took, nil
}

// spentEach is the same for several groups of servers at once.
func (b *bench) spentEach(groups [][]*process, clients *crowd, do func() error) ([]cpu, time.Duration, error) {
	servers := slices.Concat(groups...)
	read := func() (each []cpu, ours float64, err error) {
		each = make([]cpu, len(groups))
		for i, group := range groups {
			for _, p := range group {
				c, e := cpuOf(p.pid())
				each[i], ours, err = each[i].plus(c), ours+c.sum(), errors.Join(err, e)
			}
		}
		others := []int{os.Getpid()}
		for _, p := range []*process{b.broker.nats, b.broker.front} {
			if !slices.Contains(servers, p) {
				others = append(others, p.pid())
			}
		}
		if clients != nil {
			for _, s := range clients.squads {
				others = append(others, s.pid())
			}
		}
		for _, pid := range others {
			c, e := cpuOf(pid)
			ours, err = ours+c.sum(), errors.Join(err, e)
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
