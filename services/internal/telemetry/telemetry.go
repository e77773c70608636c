// Package telemetry makes what every service shows of itself: the logger, the
// metrics registry and the ops handler (/healthz, /readyz, /metrics,
// /debug/pprof).
package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// LogConfig is how a process logs.
type LogConfig struct {
	Level  string // debug, info, warn or error
	Format string // json or text
}

// Settings declares the two settings that every service has.
func (c *LogConfig) Settings() []config.Setting {
	return []config.Setting{
		{Flag: "log-level", Env: "HERALD_LOG_LEVEL", Help: "debug, info, warn or error",
			Choices: []string{"debug", "info", "warn", "error"}, NotEmpty: true, Into: &c.Level},
		{Flag: "log-format", Env: "HERALD_LOG_FORMAT", Help: "json or text", Choices: []string{"json", "text"},
			NotEmpty: true, Into: &c.Format},
	}
}

// level reads Level.
func (c *LogConfig) level() (level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return level, fmt.Errorf("log level %q: want debug, info, warn or error", c.Level)
	}
	return level, nil
}

// Validate reports a value that is none.
func (c *LogConfig) Validate() error {
	_, err := c.level()
	if format := strings.ToLower(c.Format); format != "json" && format != "text" {
		err = errors.Join(err, fmt.Errorf("log format %q: want json or text", c.Format))
	}
	return err
}

// NewLogger makes the process's logger. Every line bears the service's name. From which
// level on lines are written can be changed by level.
func NewLogger(w io.Writer, service string, cfg LogConfig) (log *slog.Logger, level *slog.LevelVar, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	level = &slog.LevelVar{}
	SetLevel(level, cfg)
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if strings.ToLower(cfg.Format) == "text" {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(h).With("service", service), level, nil
}

// SetLevel makes level what a valid configuration says.
func SetLevel(level *slog.LevelVar, cfg LogConfig) {
	if l, err := cfg.level(); err == nil {
		level.Set(l)
	}
}

// NewRegistry makes a metrics registry with the process's and Go's own
// figures and herald_build_info, which says what the process is (service):
// rules and dashboards go by that, since what Prometheus calls a job is the
// operator's choice.
func NewRegistry(service string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "herald_build_info",
		Help: "1; the version that runs is in the label, and the service: ingest, gateway, logger, or herald for " +
			"all of them in one process.",
		ConstLabels: prometheus.Labels{"version": BuildVersion(), "service": service},
	}).Set(1)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Check is one condition of readiness; nil means ready. It must not block
// for longer than its context.
type Check func(ctx context.Context) error

// Ops serves the operators' routes of one process. The zero value is not
// usable; NewOps makes one. Safe for concurrent use.
type Ops struct {
	reg prometheus.Gatherer

	mu       sync.Mutex
	checks   checks // guarded by mu; each must pass for the process to be ready
	warnings checks // guarded by mu; what is wrong and keeps nobody from being served
}

// checks are conditions in the order in which they were added.
type checks struct {
	names []string
	by    map[string]Check
}

// with is c with one more condition, or another one under a name that it has.
func (c checks) with(name string, check Check) checks {
	if _, ok := c.by[name]; !ok {
		c.names = append(slices.Clip(c.names), name)
	}
	if c.by = maps.Clone(c.by); c.by == nil {
		c.by = map[string]Check{}
	}
	c.by[name] = check
	return c
}

// run runs every check and returns their faults, joined, or nil.
func (c checks) run(ctx context.Context) error {
	var errs []error
	for _, name := range c.names {
		if err := c.by[name](ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// NewOps makes the handler around a registry, and registers herald_ready.
func NewOps(reg *prometheus.Registry) *Ops {
	o := &Ops{reg: reg}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_ready",
		Help: "1 while /readyz says that this process is ready.",
	}, func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
		defer cancel()
		return number(o.Ready(ctx) == nil)
	})
	return o
}

// readyWithin is how long the checks of readiness may take together.
const readyWithin = 2 * time.Second

// Broker registers what one service of this process finds of NATS: whether it is
// connected, and whether the stream answers it. stream says why not; nil means
// that it does. Neither may block.
func Broker(reg prometheus.Registerer, service string, connected func() bool, stream func() error) {
	label := prometheus.Labels{"service": service}
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_nats_connected", ConstLabels: label,
		Help: "1 while the service has a connection to a NATS server.",
	}, func() float64 { return number(connected()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_stream_reachable", ConstLabels: label,
		Help: "1 while the stream answers the service; for ingest: while it stores, too.",
	}, func() float64 { return number(connected() && stream() == nil) })
}

// number is a condition as Prometheus writes it.
func number(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}

// AddCheck adds one condition of readiness under a name that says what it is
// about, such as "nats".
func (o *Ops) AddCheck(name string, c Check) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.checks = o.checks.with(name, c)
}

// AddWarning adds a condition that /readyz reports and that does not make the
// process unready: others are served although it does not hold.
func (o *Ops) AddWarning(name string, c Check) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.warnings = o.warnings.with(name, c)
}

// Ready runs every check and returns their faults, joined, or nil.
func (o *Ops) Ready(ctx context.Context) error {
	o.mu.Lock()
	c := o.checks
	o.mu.Unlock()
	return c.run(ctx)
}

// Warnings are the conditions of AddWarning that do not hold, joined, or nil.
func (o *Ops) Warnings(ctx context.Context) error {
	o.mu.Lock()
	c := o.warnings
	o.mu.Unlock()
	return c.run(ctx)
}

// Mount adds the routes that stand on the public port. /healthz says that this
// process answers, and asks nobody else: a NATS outage must not make Kubernetes
// kill the pods that wait for it. /readyz runs the checks, and does not say why
// one fails: reasons name servers and paths. MountOps has everything.
func (o *Ops) Mount(r chi.Router) {
	o.mountState(r, func(s state) state { return state{Status: s.Status} })
}

// MountOps adds the routes of the operators' port: those of Mount, with
// reasons and warnings, /metrics, and pprof, which answers this machine only.
func (o *Ops) MountOps(r chi.Router) {
	o.mountState(r, func(s state) state { return s })
	httpx.Get(r, "/metrics", promhttp.HandlerFor(o.reg, promhttp.HandlerOpts{}).ServeHTTP)
	r.Route("/debug/pprof", func(r chi.Router) {
		r.Use(loopbackOnly)
		r.HandleFunc("/cmdline", pprof.Cmdline)
		r.HandleFunc("/profile", pprof.Profile)
		r.HandleFunc("/symbol", pprof.Symbol)
		r.HandleFunc("/trace", pprof.Trace)
		r.HandleFunc("/*", pprof.Index)
	})
}

func (o *Ops) mountState(r chi.Router, show func(state) state) {
	httpx.Get(r, "/healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeState(w, http.StatusOK, state{Status: "ok"})
	})
	httpx.Get(r, "/readyz", func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), readyWithin)
		defer cancel()
		if err := o.Ready(ctx); err != nil {
			writeState(w, http.StatusServiceUnavailable, show(state{Status: "not ready",
				Reasons: strings.Split(err.Error(), "\n")}))
			return
		}
		state := state{Status: "ready"}
		if err := o.Warnings(ctx); err != nil {
			state.Warnings = strings.Split(err.Error(), "\n")
		}
		writeState(w, http.StatusOK, show(state))
	})
}

// state is the body of /healthz and /readyz.
type state struct {
	Status   string   `json:"status"`
	Reasons  []string `json:"reasons,omitempty"`  // why it is not ready
	Warnings []string `json:"warnings,omitempty"` // what is wrong all the same
}

func writeState(w http.ResponseWriter, status int, body state) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that hung up misses only its own answer
}

// loopbackOnly hides profiles from everybody who is not on this machine. A local
// proxy that adds no header at all must be told not to pass on /debug.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !httpx.FromThisMachine(r) {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
