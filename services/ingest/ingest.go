// Package ingest accepts an authenticated POST, publishes it, and answers
// once NATS JetStream has stored it. To whoever has a key it also reads what
// is stored, page by page.
//
// Guarantees. A 2xx means that JetStream acknowledged the message; anything
// else means that it is not known to be stored. A request is checked as a
// whole before any of its messages is published (NDJSON: line by line), and
// its messages are published in order. Messages with an idempotency key are
// stored once within two minutes, however often they are sent. While NATS is
// away messages wait in memory, for publish.Patience at most, and are then stored or
// given up; package publish has the details.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/services/ingest/internal/publish"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/chanindex"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/pusher"
	"github.com/herald-push/herald/services/internal/settings"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Deps are the live things that ingest works with. The caller owns and closes
// them, after Run has returned.
type Deps struct {
	NATS     *nats.Conn
	Log      *slog.Logger
	Registry prometheus.Registerer
	Ops      *telemetry.Ops
	Tracer   trace.Tracer // nil: no spans
	// Store says why nothing can be stored at the moment; nil asks NATS.
	Store func() error
	// Announce is called with the first API key, if this process is the one that
	// makes it. Nil prints a banner to Stdout instead.
	Announce func(secret string)
	Stdout   io.Writer
	Settings *settings.Live // nil: none changes while ingest runs
}

// Service is ingest. New makes it, Run runs it once.
type Service struct {
	// Fixed after New.
	cfg       Config // what it began with
	log       *slog.Logger
	nc        *nats.Conn
	js        jetstream.JetStream
	publisher *publish.Publisher
	metrics   *metrics
	tracer    trace.Tracer // nil: no spans
	announce  func(secret string)
	openapi   []byte // JSON
	server    *httpx.Server
	stall     time.Duration // see stallTimeout
	index     *chanindex.Index
	reader    *natsx.Reader // of the stream
	pages     *httpx.Places // of history under way
	large     *httpx.Places // of large bodies in memory

	current    atomic.Pointer[Config] // cfg with the settings that changed; never changed itself
	ring       auth.Ring
	envKey     keystore.EnvKey // of keepKeys alone
	keysLoaded atomic.Bool
	apps       pusher.Apps
	appsLoaded atomic.Bool
	appsLate   atomic.Bool                   // they are not to be had: ingest is ready without them
	forwarded  sync.Once                     // X-Forwarded-For of a peer that is no trusted proxy was reported
	uses       atomic.Pointer[keystore.Uses] // nil until the key bucket is open

	// draining ends when Run's context does: NDJSON streams then finish.
	draining context.Context
	drain    context.CancelFunc

	answers *answers // for the console
}

// New wires the service, and binds its listener unless cfg.Listen is empty.
// It asks NATS nothing: Run does, and tries again until it succeeds.
func New(_ context.Context, cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Announce == nil && deps.Stdout == nil {
		return nil, errors.New("ingest: Deps needs Announce or Stdout, or the first API key would be lost")
	}
	js, err := jetstream.New(deps.NATS)
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	s := &Service{cfg: cfg, log: deps.Log, nc: deps.NATS, js: js, tracer: deps.Tracer, announce: deps.Announce,
		stall: stallTimeout,
		pages: httpx.NewPlaces(maxPages, maxPagesOfKey), large: httpx.NewPlaces(largeBodies, largeBodiesOfKey)}
	s.current.Store(&s.cfg)
	s.envKey = keystore.EnvKey{Secret: cfg.APIKey, File: cfg.APIKeyFile, Log: s.log}
	s.index = chanindex.New()
	s.reader = natsx.NewReader(s.nc, s.index)
	s.draining, s.drain = context.WithCancel(context.Background())
	if s.publisher, err = publish.New(s.nc, js, publish.Config{
		Stream:  natsx.StreamConfig{MaxAge: cfg.StreamMaxAge, MaxBytes: cfg.StreamMaxBytes, Replicas: cfg.Replicas},
		Recheck: cfg.recheck, Patience: cfg.patience, Store: deps.Store,
	}, deps.Registry, s.log); err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	s.metrics = newMetrics(deps.Registry)
	s.answers = newAnswers(s, deps.Ops)
	if s.openapi, err = openAPI(); err != nil {
		return nil, err
	}
	if cfg.Listen != "" {
		router := httpx.NewRouter(s.log)
		deps.Ops.Mount(router)
		s.Mount(router)
		if s.server, err = httpx.NewServer(httpx.ServerConfig{Listen: cfg.Listen, Grace: cfg.Drain,
			MaxPerAddress: cfg.MaxPerIP, Proxies: cfg.TrustedProxies, Hosts: cfg.Hosts}, router, s.log); err != nil {
			return nil, err
		}
	}
	deps.Settings.Add(settings.Of("ingest", cfg, (*Config).Settings, (*Config).Validate, s.apply,
		"max-connections-per-ip", "stream-max-age", "stream-max-bytes", "max-message-bytes", "max-request-bytes"))
	deps.Settings.Remake(cfg.Replicas)
	if s.announce == nil {
		s.announce = func(secret string) { banner(deps.Stdout, s.Addr(), secret) }
	}
	deps.Ops.AddCheck("ingest", s.ready)
	telemetry.Broker(deps.Registry, "ingest", s.nc.IsConnected, s.publisher.Ready)
	return s, nil
}

// apply makes settings act that were changed while ingest runs.
func (s *Service) apply(cfg Config) {
	old := s.current.Swap(&cfg)
	if s.server != nil {
		s.server.Admission().LimitAddresses(cfg.MaxPerIP)
	}
	if cfg.StreamMaxAge != old.StreamMaxAge || cfg.StreamMaxBytes != old.StreamMaxBytes {
		s.publisher.Limit(cfg.StreamMaxAge, cfg.StreamMaxBytes)
	}
}

// Index is where a channel's past is, as long as Run does.
func (s *Service) Index() *chanindex.Index { return s.index }

// Addr is where the service listens; nil without a listener of its own.
func (s *Service) Addr() net.Addr {
	if s.server == nil {
		return nil
	}
	return s.server.Addr()
}

// Run serves until ctx ends: it declares the stream and loads the keys, and
// tries again until NATS answers. Requests that it accepts meanwhile are
// answered with 503. At the end NDJSON streams stop
// reading, and requests under way get the drain window.
func (s *Service) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer func() { // the publisher last: requests under way need it
		stop()
		wg.Wait()
		s.publisher.Close()
	}()
	wg.Go(func() { s.publisher.Run(background) })
	wg.Go(func() { s.keepKeys(background) })
	wg.Go(func() { s.index.Run(background, s.nc, s.log) })
	wg.Go(func() { s.keepApps(background) })
	wg.Go(func() {
		if err := s.answers.run(background); err != nil { // the connection is closed: nothing else works, either
			s.log.Warn("the console cannot be answered", "err", err)
		}
	})
	defer context.AfterFunc(ctx, s.drain)()
	if s.server != nil {
		if err := s.server.Run(ctx); err != nil {
			return fmt.Errorf("ingest: %w", err)
		}
		return nil
	}
	<-ctx.Done()
	return nil
}

// Drain ends NDJSON streams after the lines that were read. Run does so when its context ends; call it before that
// where the server of requests stops first. It returns at once.
func (s *Service) Drain() { s.drain() }

// ready is the condition of readiness: connected, the stream declared, the
// keys and apps loaded, not stopping.
func (s *Service) ready(context.Context) error {
	switch {
	case s.draining.Err() != nil:
		return errors.New("stopping")
	case !s.nc.IsConnected():
		return errors.New("NATS is not connected")
	}
	if err := s.started(); err != nil {
		return err
	}
	if err := s.publisher.Ready(); err != nil {
		return err
	}
	if !s.appsLoaded.Load() && !s.appsLate.Load() {
		return errors.New("the apps of Pusher's clients are not loaded yet")
	}
	return nil
}

// started says what is missing before the first request can be served.
func (s *Service) started() error {
	if err := s.publisher.Ready(); errors.Is(err, publish.ErrNoStream) {
		return err
	}
	if !s.keysLoaded.Load() {
		return errors.New("the API keys are not loaded yet")
	}
	return nil
}
