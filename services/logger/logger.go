// Package logger writes down who sent what, when: it reads the stream
// durably, stores in batches in an SQLite file, acknowledges after the
// commit, and answers history.
//
// Guarantees. Every message that the stream stored becomes one row, exactly
// once, through kill -9, redelivery and NATS outages; what the stream lost
// before the logger saw it is counted as a hole. While the disk is full (or
// the file cannot be written) nothing is acknowledged: the messages wait in
// the stream, and the logger goes on by itself. Rows come in batches, so the
// log follows the stream by some 50 ms; reading it never waits for writing.
package logger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/herald-push/herald/services/internal/settings"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// Deps are the live things that the logger works with. The caller owns and
// closes them, after Run has returned.
type Deps struct {
	NATS     *nats.Conn
	Log      *slog.Logger
	Registry prometheus.Registerer
	Ops      *telemetry.Ops
	// Optional says that the process has other work than the log. Then trouble
	// of the log stands in /readyz as a warning, and does not make the process
	// unready.
	Optional bool
	Settings *settings.Live // nil: none changes while the logger runs
}

// Service is the logger. New makes it, Run runs it once.
type Service struct {
	// Fixed after New.
	cfg      Config
	log      *slog.Logger
	nc       *nats.Conn
	js       jetstream.JetStream
	metrics  *metrics
	consumer *consumer
	server   *httpx.Server
	exports  *httpx.Places
	// queryTimeout bounds one page, waiting for other queries included. The
	// store cuts a long search short before that.
	queryTimeout time.Duration

	current   atomic.Pointer[Config] // cfg with the settings that changed; never changed itself
	retainNow chan struct{}          // holds one token when retention has changed; never closed
	// store is set before opened is, and neither changes afterwards.
	store  *store.Store
	opened atomic.Bool
	// settled says that it is known how the log fares; see starting.
	settled atomic.Bool

	// keys is replaced as a whole when the bucket is read anew.
	keys   atomic.Pointer[auth.Ring]
	envKey keystore.EnvKey // of keepKeys alone
	// keysLoaded says that keys holds those of the bucket.
	keysLoaded atomic.Bool

	answers *answers // for the console
}

const (
	retainEvery = time.Minute
	// queryTimeout is below the server's write timeout, so that the answer
	// still gets out.
	queryTimeout = 10 * time.Second
	// maxExports run at once: each keeps a processor busy for as long as its
	// client reads. One key has so many of them that another finds a place.
	maxExports      = 4
	maxExportsOfKey = 2
)

// New wires the service, and binds its listener unless cfg.Listen is empty. It
// neither opens the file nor asks NATS: Run does, and tries again until it succeeds.
func New(_ context.Context, cfg Config, deps Deps) (_ *Service, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, log: deps.Log, nc: deps.NATS, exports: httpx.NewPlaces(maxExports, maxExportsOfKey),
		queryTimeout: queryTimeout, retainNow: make(chan struct{}, 1)}
	s.current.Store(&s.cfg)
	if s.js, err = jetstream.New(deps.NATS); err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	s.keys.Store(&auth.Ring{})
	s.envKey = keystore.EnvKey{Secret: cfg.APIKey, File: cfg.APIKeyFile, Log: s.log}
	if deps.Optional { // ingest, in the same process, has the same key and reports what becomes of it
		s.envKey.Log = slog.New(slog.DiscardHandler)
	}
	s.metrics = newMetrics(deps.Registry, s.fileBytes, s.holes)
	s.consumer = newConsumer(s.nc, s.js, s.metrics, s.log)
	s.answers = newAnswers(s, deps.Ops)
	if cfg.Listen != "" {
		router := httpx.NewRouter(s.log)
		deps.Ops.Mount(router)
		s.Mount(router)
		if s.server, err = httpx.NewServer(httpx.ServerConfig{Listen: cfg.Listen}, router, s.log); err != nil {
			return nil, err
		}
	}
	telemetry.Broker(deps.Registry, "logger", s.nc.IsConnected, s.consumer.reachable)
	deps.Settings.Add(settings.Of("logger", cfg, (*Config).Settings, (*Config).Validate, s.apply, "log-max-age",
		"log-max-bytes"))
	if deps.Optional {
		deps.Ops.AddCheck("logger", s.starting)
		deps.Ops.AddWarning("logger", s.ready)
	} else {
		deps.Ops.AddCheck("logger", s.ready)
	}
	return s, nil
}

// apply makes settings act that were changed while the logger runs.
func (s *Service) apply(cfg Config) {
	s.current.Store(&cfg)
	select {
	case s.retainNow <- struct{}{}:
	default: // it is due anyway
	}
}

// Addr is where the service listens; nil without a listener of its own.
func (s *Service) Addr() net.Addr {
	if s.server == nil {
		return nil
	}
	return s.server.Addr()
}

// Run logs and serves until ctx ends. Then it lets requests under way finish,
// commits and acknowledges the batch in hand, and closes the file.
func (s *Service) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { s.keepKeys(background) })
	wg.Go(func() {
		if err := s.answers.run(background); err != nil { // the connection is closed: nothing else works, either
			s.log.Warn("the console cannot be answered", "err", err)
		}
	})
	wg.Go(func() {
		if !s.open(background) {
			return
		}
		wg.Go(func() { s.consumer.run(background) })
		wg.Go(func() { s.keepRetention(background) })
	})
	var err error
	if s.server != nil {
		err = s.server.Run(ctx)
	} else {
		<-ctx.Done()
	}
	stop()
	wg.Wait()
	if s.opened.Load() {
		err = errors.Join(err, s.store.Close())
	}
	if err != nil {
		return fmt.Errorf("logger: %w", err)
	}
	return nil
}

// open opens the file, and tries again until it succeeds: a lock on it, a file that is no
// database, or a folder that cannot be written are for a person to mend, and
// the messages wait in the stream meanwhile. False means that ctx ended.
func (s *Service) open(ctx context.Context) bool {
	again := retry.Policy{Pause: s.consumer.timing.retry, Every: func(err error) { s.consumer.note(explain(err)) }}
	return again.Until(ctx, func(ctx context.Context) error {
		st, err := store.Open(ctx, s.cfg.DB)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), st.Close())
		}
		s.store, s.consumer.store = st, st
		s.opened.Store(true)
		s.consumer.note(nil)
		return nil
	}) == nil
}

// explain adds to a fault of the file what a person can do about it.
func explain(err error) error {
	if remedy := store.Remedy(err); remedy != "" {
		return fmt.Errorf("%w; %s", err, remedy)
	}
	return err
}

// starting is the condition of readiness in a process with other work: that
// the log works, or is known not to work. Which of both, the warning says.
func (s *Service) starting(ctx context.Context) error {
	if s.settled.Load() {
		return nil
	}
	err := s.ready(ctx)
	if err == nil || s.consumer.broken.Load() != nil {
		s.settled.Store(true)
		return nil
	}
	return err
}

// ready is the condition of readiness: connected, reading the stream, which
// answers, able to write, the keys loaded.
func (s *Service) ready(context.Context) error {
	if !s.nc.IsConnected() {
		return errors.New("NATS is not connected")
	}
	if err := s.consumer.fault(); err != nil {
		return err
	}
	if !s.keysLoaded.Load() {
		return errors.New("the API keys are not loaded yet; ingest makes their bucket")
	}
	return s.consumer.pulse.Err()
}

func (s *Service) fileBytes() float64 {
	if !s.opened.Load() {
		return 0
	}
	n, err := s.store.FileBytes()
	if err != nil {
		s.log.Debug("size of the log unknown", "err", err)
	}
	return float64(n)
}

func (s *Service) holes() float64 {
	if !s.opened.Load() {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		s.log.Debug("holes of the log unknown", "err", err)
	}
	n := 0.0
	for _, e := range epochs {
		n += float64(e.Holes)
	}
	return n
}

// stuckBytes of the write-ahead log are more than a query leaves behind.
const stuckBytes = 128 << 20

// keepRetention deletes what is too old or too much until ctx ends: once a minute,
// and when somebody changed what that is.
func (s *Service) keepRetention(ctx context.Context) {
	var failed retry.Row
	warned := false
	for ctx.Err() == nil {
		err := s.retain(ctx, &warned)
		switch {
		case err == nil:
			failed.End()
		case ctx.Err() == nil && failed.New(err):
			s.log.Warn("rows beyond retention cannot be deleted; trying again", "err", err)
		}
		t := time.NewTimer(retainEvery)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-s.retainNow:
		}
		t.Stop()
	}
}

func (s *Service) retain(ctx context.Context, warned *bool) error {
	cfg := s.current.Load()
	n, err := s.store.Retain(ctx, cfg.MaxAge, cfg.MaxBytes, time.Now())
	s.metrics.expired.Add(float64(n))
	stuck := s.store.Stuck()
	s.metrics.stuck.Set(float64(stuck))
	if stuck >= stuckBytes && !*warned {
		s.log.Warn("the log's write-ahead log grows, since somebody reads the file in one long transaction; end "+
			"that program", "file", s.cfg.DB, "bytes", stuck)
	}
	*warned = stuck >= stuckBytes
	return err
}
