// Package admin serves Herald's console below /admin/: a page, and the calls
// that it makes. It has no database: users, sessions and the audit are in
// JetStream, and everything else is asked from the other services over NATS.
//
// Guarantees. Nobody does anything without a session, a role that includes it
// and the session's CSRF token; every action of an administrator is a row of the
// audit. While no page is open the console asks nobody anything. Passwords are
// kept as argon2id digests, and shown once.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// Deps are the live things that the console works with. The caller owns and
// closes them, after Run has returned.
type Deps struct {
	NATS     *nats.Conn
	Log      *slog.Logger
	Registry prometheus.Registerer
	Ops      *telemetry.Ops
	Pages    fs.FS // with the folders admin, shared and third_party
	// Announce is called with the first user and its password, if this process is
	// the one that makes it. Nil prints a banner to Stdout instead.
	Announce func(user, password string)
	Stdout   io.Writer
	// Listener is where the single binary listens; nil: another process listens for it.
	Listener Listener
	// Single says that all services are in this process. Then trouble of the console
	// is a warning in /readyz, and does not make the process unready.
	Single bool
}

// Service is the console. New makes it, Run runs it once.
type Service struct {
	// Fixed after New.
	cfg      Config
	deps     Deps
	log      *slog.Logger
	nc       *nats.Conn
	js       jetstream.JetStream
	metrics  *metrics
	server   *httpx.Server
	instance string // name of the host
	sessions *scs.SessionManager
	clock    func() time.Time
	gzipped  sync.Map // files of the page, by ETag; see compressed
	throttle throttle
	plain    sync.Once // a login over plain HTTP was reported
	provider *provider // nil: no OpenID Connect
	ask      *ask.Client
	exports  *httpx.Places // of the log
	process  ask.Process
	recorder *recorder
	tails    *httpx.Places
	recheck  time.Duration // the constant sessionCheck; tests make it shorter
	stopping chan struct{} // closed when Run's context ends: tails end then

	// stores are set once, by Run, when NATS has answered; nil until then.
	stores atomic.Pointer[stores]
	// settled says that it is known how the console fares; see starting.
	settled atomic.Bool
	fault   atomic.Pointer[error] // why there are no stores yet, or why they are not whole; nil: they are
	// doubted holds a token when a store did not answer: prepare looks whether all are there. Never closed.
	doubted chan struct{}
}

// New wires the service, and binds its listener unless cfg.Listen is empty. It
// asks NATS nothing: Run does, and tries again until it succeeds.
func New(_ context.Context, cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Announce == nil && deps.Stdout == nil {
		return nil, errors.New("admin: Deps needs Announce or Stdout, or the first password would be lost")
	}
	js, err := jetstream.New(deps.NATS)
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	s := &Service{cfg: cfg, deps: deps, log: deps.Log, nc: deps.NATS, js: js, clock: time.Now}
	if s.instance, err = os.Hostname(); err != nil {
		s.instance = "unknown"
	}
	s.doubted = make(chan struct{}, 1)
	s.sessions, s.provider = newSessions(s), newProvider(&s.cfg.OIDC)
	s.metrics = newMetrics(deps.Registry)
	s.process = ask.NewProcess("admin", httpx.NewID(), telemetry.BuildVersion())
	s.recorder, s.tails, s.stopping, s.recheck = newRecorder(s), httpx.NewPlaces(maxTails, maxTailsOfUser),
		make(chan struct{}), sessionCheck
	s.exports = httpx.NewPlaces(exportsAtOnce, exportsOfUser)
	if s.ask, err = ask.NewClient(deps.NATS); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if cfg.Listen != "" {
		router := httpx.NewRouter(s.log)
		deps.Ops.Mount(router)
		s.Mount(router)
		if s.server, err = httpx.NewServer(httpx.ServerConfig{Listen: cfg.Listen, MaxPerAddress: cfg.MaxPerIP,
			Proxies: cfg.TrustedProxies, Hosts: cfg.Hosts}, router, s.log); err != nil {
			return nil, err
		}
	}
	if s.cfg.Console == Off {
		return s, nil
	}
	if s.deps.Announce == nil {
		s.deps.Announce = func(user, password string) { banner(deps.Stdout, user, password) }
	}
	if deps.Single {
		deps.Ops.AddCheck("console", s.starting)
		deps.Ops.AddWarning("console", s.ready)
	} else {
		deps.Ops.AddCheck("console", s.ready)
	}
	return s, nil
}

// Addr is where the service listens; nil without a listener of its own.
func (s *Service) Addr() net.Addr {
	if s.server == nil {
		return nil
	}
	return s.server.Addr()
}

// Run serves until ctx ends. It makes the buckets and the first user, and tries
// again until NATS answers; calls that it accepts meanwhile are answered with
// 503.
func (s *Service) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	defer s.provider.close()
	defer s.ask.Close()
	if s.cfg.Console != Off {
		wg.Go(func() { s.prepare(background) })
		wg.Go(func() { s.recorder.run(background) })
	}
	defer context.AfterFunc(ctx, func() { close(s.stopping) })()
	if s.server != nil {
		if err := s.server.Run(ctx); err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		return nil
	}
	<-ctx.Done()
	return nil
}

// ready is the condition of readiness: connected, users and sessions at hand.
func (s *Service) ready(context.Context) error {
	if !s.nc.IsConnected() {
		return errors.New("NATS is not connected")
	}
	if fault := s.fault.Load(); fault != nil {
		return *fault
	}
	if s.stores.Load() == nil {
		return errors.New("users and sessions are not loaded yet")
	}
	return nil
}

// starting is the condition of readiness in a process with other work: that the
// console works, or is known not to work. Which of both, the warning says.
func (s *Service) starting(context.Context) error {
	if s.settled.Load() {
		return nil
	}
	if s.stores.Load() == nil && s.fault.Load() == nil {
		return errors.New("users and sessions are not loaded yet")
	}
	s.settled.Store(true)
	return nil
}

// banner shows the first password to whoever started the service.
func banner(w io.Writer, user, password string) {
	fmt.Fprintf(w, `
Herald made the first user of its console. The password is shown once: only a digest of it is kept.

    user:     %s
    password: %s

If it is lost: herald users reset %s

`, user, password, user)
}
