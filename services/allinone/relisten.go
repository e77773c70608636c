package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/services/admin"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
)

// confirmWithin is how long a change of address may wait for its confirmation: a person
// may have to tell the browser first that the certificate is theirs.
const confirmWithin = time.Minute

// relisten lets the console change where the binary listens, and writes that into the
// config file. It implements admin.Listener. Safe for concurrent use; close ends it.
type relisten struct {
	server *httpx.Server
	file   string
	locked string                                // why nothing can be changed; empty: it can
	moved  func(now admin.Listen, addr net.Addr) // called when a change lasts; nil: by nobody
	log    *slog.Logger
	within time.Duration // the constant; tests make it longer

	reading chan struct{} // has one while a certificate is read; never closed

	mu      sync.Mutex
	now     admin.Listen // guarded by mu; that lasts
	pending *pending     // guarded by mu; nil: no change waits
	closed  bool         // guarded by mu
}

// pending is a change that waits to be confirmed.
type pending struct {
	token string
	want  admin.Listen
	to    *httpx.Listening
	old   *httpx.Listening // nil: it had to give the port up
	timer *time.Timer
}

func newRelisten(server *httpx.Server, cfg Config, table []config.Setting, file string, log *slog.Logger) *relisten {
	l := &relisten{server: server, file: file, log: log, within: confirmWithin,
		reading: make(chan struct{}, 1)}
	l.now = admin.Listen{Protocol: "http", CertPath: cfg.Gateway.CertFile, KeyPath: cfg.Gateway.KeyFile}
	if server.First().Secure() {
		l.now.Protocol = "https"
	}
	if _, port, err := net.SplitHostPort(server.Addr().String()); err == nil {
		l.now.Port = port
	}
	host, _, _ := net.SplitHostPort(cfg.Listen) // config has read it
	for _, s := range table {
		if !slices.Contains([]string{"listen", "tls-cert", "tls-key"}, s.Flag) {
			continue
		}
		switch {
		case s.From == config.FromFlag:
			l.locked = fmt.Sprintf("-%s on the command line wins over %s; start Herald without it to change this here",
				s.Flag, file)
		case s.From == config.FromEnv && l.locked == "":
			l.locked = fmt.Sprintf("%s in the environment wins over %s; start Herald without it to change this here",
				s.Env, file)
		}
	}
	if l.locked == "" && host != "" {
		l.locked = fmt.Sprintf("%s names the address %s under listen; remove listen there to change the port here",
			file, cfg.Listen)
	}
	return l
}

// Now is where it listens.
func (l *relisten) Now() (now admin.Listen, file, address, locked string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now, l.file, l.server.Addr().String(), l.locked
}

// Change listens at another address besides, or, on the same port, in place of the old
// one, until it is confirmed or time is over.
func (l *relisten) Change(want admin.Listen) (token string, within time.Duration, err error) {
	err = want.Validate()
	if err == nil {
		err = l.valid(want)
	}
	if err != nil {
		return "", 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return "", 0, errors.New("this Herald stops")
	case l.pending != nil:
		return "", 0, admin.ErrUnderWay
	case want == l.now:
		return "", 0, errors.New("it listens there already, with these files")
	}
	if err := mayWriteListen(l.file, want); err != nil { // before the listener moves and browsers follow it
		return "", 0, fmt.Errorf("the next start would not know of it, since it cannot be written into %s: %w", l.file,
			err)
	}
	p := &pending{token: rand.Text(), want: want, old: l.server.First()}
	if want.Port != l.now.Port {
		p.to, err = l.bind(want)
	} else {
		p.to, err = l.replace(want, p.old)
		p.old = nil
	}
	if err != nil {
		return "", 0, err
	}
	l.pending = p
	p.timer = time.AfterFunc(l.within, func() { l.expire(p) })
	l.log.Info("listening at another address until that is confirmed", "addr", p.to.Addr().String(), "protocol",
		want.Protocol, "within", l.within.String())
	return p.token, l.within, nil
}

// readWithin bounds how long the files of a certificate may take to be read.
const readWithin = 5 * time.Second

// read reads a certificate. It is called without mu, since a file can block who reads it
// for ever (a disk that is away, some of /proc): then one goroutine waits for it, and no
// other certificate is read meanwhile.
func (l *relisten) read(want admin.Listen) (*x509.Certificate, error) {
	select {
	case l.reading <- struct{}{}:
	default:
		return nil, errors.New("another certificate is being read; try again when that is done")
	}
	type answer struct {
		leaf *x509.Certificate
		err  error
	}
	done := make(chan answer, 1)
	go func() { // ends when the files are read
		files, err := httpx.NewCertReloader(want.CertPath, want.KeyPath, l.log)
		<-l.reading // before the answer, after which another may be read
		if err != nil {
			done <- answer{err: err}
			return
		}
		done <- answer{leaf: files.Leaf()}
	}()
	select {
	case a := <-done:
		return a.leaf, a.err
	case <-time.After(readWithin):
		return nil, fmt.Errorf("certpath %s, keypath %s: they could not be read within %s; are these the right files?",
			want.CertPath, want.KeyPath, readWithin)
	}
}

// valid refuses a certificate that cannot be read, or that browsers refuse, unless it is
// the one that is in use.
func (l *relisten) valid(want admin.Listen) error {
	if want.Protocol != "https" {
		return nil
	}
	leaf, err := l.read(want)
	if err != nil {
		return err
	}
	if now, _, _, _ := l.Now(); want.CertPath == now.CertPath && now.Protocol == "https" {
		return nil
	}
	switch now := time.Now(); {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("certpath %s: the certificate ended on %s; no browser would open the console there",
			want.CertPath, leaf.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("certpath %s: the certificate begins on %s; no browser would open the console there yet",
			want.CertPath, leaf.NotBefore.UTC().Format(time.DateOnly))
	}
	return nil
}

// bind listens where want says.
func (l *relisten) bind(want admin.Listen) (*httpx.Listening, error) {
	cert, key := "", ""
	if want.Protocol == "https" {
		cert, key = want.CertPath, want.KeyPath
	}
	return l.server.Listen(":"+want.Port, cert, key)
}

// replace listens in another way on the port that old has. If that fails, old is there
// again. mu is held.
func (l *relisten) replace(want admin.Listen, old *httpx.Listening) (*httpx.Listening, error) {
	if err := old.Close(); err != nil {
		l.log.Warn("the old address could not be closed", "err", err)
	}
	to, err := l.bind(want)
	if err != nil {
		return nil, errors.Join(err, l.back())
	}
	l.server.Prefer(to)
	return to, nil
}

// back listens again where it lasts, after the port was given up. mu is held.
func (l *relisten) back() error {
	to, err := l.bind(l.now)
	if err != nil {
		l.log.Error("the address before cannot be had again; restart Herald", "port", l.now.Port, "err", err)
		return err
	}
	l.server.Prefer(to)
	return nil
}

// Confirm makes the change last.
func (l *relisten) Confirm(_ context.Context, token string) (admin.Listen, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pending
	if p == nil || subtle.ConstantTimeCompare([]byte(token), []byte(p.token)) != 1 {
		return admin.Listen{}, admin.ErrUnconfirmed
	}
	p.timer.Stop()
	l.pending, l.now = nil, p.want
	l.server.Prefer(p.to)
	if p.old != nil {
		if err := p.old.Close(); err != nil {
			l.log.Warn("the old address could not be closed", "err", err)
		}
	}
	l.log.Info("listening", "addr", p.to.Addr().String(), "protocol", p.want.Protocol, "file", l.file)
	if l.moved != nil {
		l.moved(l.now, p.to.Addr())
	}
	return l.now, writeListen(l.file, p.want)
}

// expire goes back to where it listened before.
func (l *relisten) expire(p *pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending != p || l.closed {
		return
	}
	l.pending = nil
	if err := p.to.Close(); err != nil {
		l.log.Warn("the new address could not be closed", "err", err)
	}
	if p.old == nil {
		_ = l.back() // it has said what went wrong
	}
	l.log.Warn("another address was not confirmed in time; listening where it was before", "refused", p.want.Port,
		"addr", l.server.Addr().String())
}

// close ends what waits; the server closes its listeners itself.
func (l *relisten) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.pending != nil {
		l.pending.timer.Stop()
	}
}

// listenMembers are the predecessor's names, in its file's order.
func listenMembers(want admin.Listen) [][2]string {
	return [][2]string{{"http", want.Protocol}, {"socketport", want.Port}, {"certpath", want.CertPath},
		{"keypath", want.KeyPath}}
}

// fileOf is the config file that a start with these arguments reads.
func fileOf(c *call) string {
	if path := configPath(c.args, c.env); strings.TrimSpace(path) != "" {
		return path
	}
	return defaultFile
}
