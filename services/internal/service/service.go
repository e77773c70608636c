// Package service is the process around one service: settings, logger, metrics,
// tracing, the connection to NATS, and how it stops. The mains of ingest,
// gateway, logger and admin are this package and what makes each of them different.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/lifecycle"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/settings"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// Spec is what makes one service different from the others. Its pointers are
// read after the settings are.
type Spec struct {
	Name     string // gateway; also of its log lines, and herald-gateway in NATS
	Settings []config.Setting
	Validate func() error
	Listen   *string // its address, among Settings
	Ops      string  // the operators' port where nobody chooses: 127.0.0.1:8091
	CertFile *string // the certificate that it shows; nil: it speaks plain HTTP
	// Trace, if set, starts tracing before New; stop ends it after Run. Only who
	// makes spans links the exporter.
	Trace func(ctx context.Context, env config.Env, log *slog.Logger) (stop func(), err error)
	// GCPercent is by how much memory grows between two garbage collections, as GOGC, which wins
	// over it. GOMEMLIMIT is heeded in any case. 0: 100, Go's default.
	GCPercent int
	// StopWithin bounds the whole goodbye, below Kubernetes' grace period.
	StopWithin func() time.Duration
	// New wires the service. The caller owns and closes what it gets.
	New func(context.Context, Live) (Runner, error)
}

// Live are the things that a service works with.
type Live struct {
	NATS     *nats.Conn
	Log      *slog.Logger
	Registry *prometheus.Registry
	Ops      *telemetry.Ops
	Settings *settings.Live
	Stdout   io.Writer
}

// Runner is a service that is wired: it has its listener.
type Runner interface {
	Addr() net.Addr
	Run(context.Context) error
}

// Main is the main function of a service. It ends the process with 1 after an
// error.
func Main(spec Spec) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, sentence := range config.Misspelt(os.Environ()) {
		slog.New(slog.NewJSONHandler(os.Stderr, nil)).Warn(sentence, "service", spec.Name)
	}
	if os.Getenv("GOGC") == "" && spec.GCPercent > 0 {
		debug.SetGCPercent(spec.GCPercent)
	}
	if err := Run(ctx, spec, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, spec.Name+":", err)
		os.Exit(1)
	}
}

// Run is the process: it returns nil after a clean stop, and after -h,
// -version and a -health that finds the service ready.
func Run(ctx context.Context, spec Spec, args []string, env config.Env, stdout, stderr io.Writer) error {
	broker := natsx.Config{URL: "nats://127.0.0.1:4222", Name: "herald-" + spec.Name}
	logs := telemetry.LogConfig{Level: "info", Format: "json"}
	operators := NewOpsConfig(spec.Ops)
	table, version, health, err := spec.read(args, env, stdout, &broker, &logs, &operators)
	switch {
	case errors.Is(err, config.ErrHelp):
		return nil
	case err != nil:
		return err
	case version:
		_, err := fmt.Fprintln(stdout, telemetry.BuildDetails())
		return err
	case health:
		certFile := ""
		if spec.CertFile != nil {
			certFile = *spec.CertFile
		}
		return httpx.Health(ctx, *spec.Listen, certFile, operators.Listen)
	}

	live := Live{Registry: telemetry.NewRegistry(spec.Name), Stdout: stdout}
	live.Ops = telemetry.NewOps(live.Registry)
	var level *slog.LevelVar
	if live.Log, level, err = telemetry.NewLogger(stderr, spec.Name, logs); err != nil {
		return err
	}
	live.Settings = settings.New(table, live.Log)
	live.Settings.Add(LogPart(spec.Name, logs, level))
	defer lifecycle.OutliveHangup(live.Log)()
	if spec.Trace != nil {
		stop, err := spec.Trace(ctx, env, live.Log)
		if err != nil {
			return err
		}
		defer stop()
	}
	// Without NATS it answers all the same: alive and not ready.
	if live.NATS, err = natsx.Attach(broker, live.Log); err != nil {
		return err
	}
	defer live.NATS.Close()
	svc, err := spec.New(ctx, live)
	if err != nil {
		return err
	}
	parts := []lifecycle.Part{
		{Name: "settings", Run: func(ctx context.Context) error { return live.Settings.Run(ctx, live.NATS) }},
		{Name: spec.Name, Run: svc.Run},
	}
	ops, err := operators.Server(live.Ops, live.Log)
	if err != nil {
		return fmt.Errorf("ops-listen: %w", err)
	}
	opsAddr := "none"
	if ops != nil {
		opsAddr = ops.Addr().String()
		// First in the list, so it stops last: until then it answers /readyz and /metrics.
		parts = append([]lifecycle.Part{{Name: "ops", Run: ops.Run}}, parts...)
	}
	live.Log.Info("listening", "addr", svc.Addr().String(), "ops", opsAddr, "version", telemetry.BuildVersion())
	return lifecycle.Run(ctx, live.Log, spec.StopWithin(), parts...)
}

// read reads and checks all settings.
func (s *Spec) read(args []string, env config.Env, stdout io.Writer, broker *natsx.Config, logs *telemetry.LogConfig,
	operators *OpsConfig) (table []config.Setting, version, health bool, err error) {
	example := *s.Listen // the default
	table = append(s.Settings, broker.Settings()...)
	table = append(table, logs.Settings()...)
	table = append(table, operators.Settings()...)
	table = append(table,
		config.Setting{Flag: "version", Help: "print the version and exit", Into: &version},
		config.Setting{Flag: "health", Help: "ask the running service whether it is ready, and exit with 0 if it is",
			Into: &health},
	)
	rest, err := config.Parse(s.Name, args, env, nil, stdout, table)
	switch {
	case errors.Is(err, config.ErrHelp):
		return nil, false, false, err
	case err == nil && len(rest) > 0:
		err = fmt.Errorf("unexpected argument %q; %s -h lists the flags", rest[0], s.Name)
	case err == nil && *s.Listen == "":
		err = fmt.Errorf("listen: want an address such as %s", example)
	}
	return table, version, health, errors.Join(err, s.Validate(), broker.Validate())
}

// LogPart is the level of a process's log among the settings that change.
func LogPart(name string, logs telemetry.LogConfig, level *slog.LevelVar) settings.Part {
	return settings.Of(name, logs, (*telemetry.LogConfig).Settings, (*telemetry.LogConfig).Validate,
		func(c telemetry.LogConfig) { telemetry.SetLevel(level, c) }, "log-level")
}
