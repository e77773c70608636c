// Command gateway holds clients and pushes to them what NATS JetStream stores.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/herald-push/herald/services/gateway"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/lifecycle"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/herald-push/herald/services/internal/tracing"
	"github.com/herald-push/herald/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

// run is the process: it returns nil after a clean stop, and after -h,
// -version and a -health that finds the service ready.
func run(ctx context.Context, args []string, env config.Env, stdout, stderr io.Writer) error {
	cfg := gateway.DefaultConfig()
	nats := natsx.Config{URL: "nats://127.0.0.1:4222", Name: "herald-gateway"}
	logs := telemetry.LogConfig{Level: "info", Format: "json"}
	var version, health bool
	settings := append(cfg.Settings(), nats.Settings()...)
	settings = append(settings, logs.Settings()...)
	settings = append(settings,
		config.Setting{Flag: "version", Help: "print the version and exit", Into: &version},
		config.Setting{Flag: "health", Help: "ask the running service whether it is ready, and exit with 0 if it is", Into: &health},
	)
	rest, err := config.Parse("gateway", args, env, nil, stdout, settings)
	switch {
	case errors.Is(err, config.ErrHelp):
		return nil
	case err == nil && len(rest) > 0:
		err = fmt.Errorf("unexpected argument %q; gateway -h lists the flags", rest[0])
	case err == nil && cfg.Listen == "":
		err = errors.New("listen: want an address such as :8081")
	}
	if err = errors.Join(err, cfg.Validate(), nats.Validate()); err != nil {
		return err
	}
	switch {
	case version:
		fmt.Fprintln(stdout, telemetry.BuildVersion())
		return nil
	case health:
		return httpx.Health(ctx, cfg.Listen, cfg.CertFile)
	}

	log, err := telemetry.NewLogger(stderr, "gateway", logs)
	if err != nil {
		return err
	}
	tracer, stopTracing, err := tracing.Start(ctx, "herald-gateway", env, log)
	if err != nil {
		return err
	}
	defer stopTracing()
	registry := telemetry.NewRegistry()
	// Without NATS it answers all the same: alive and not ready.
	nc, err := natsx.Attach(nats, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	svc, err := gateway.New(ctx, cfg, gateway.Deps{NATS: nc, Log: log, Registry: registry, Ops: telemetry.NewOps(registry), Tracer: tracer, Pages: web.FS})
	if err != nil {
		return err
	}
	log.Info("listening", "addr", svc.Addr().String(), "version", telemetry.BuildVersion())
	return lifecycle.Run(ctx, log, cfg.DrainDelay+cfg.Drain+10*time.Second, lifecycle.Part{Name: "gateway", Run: svc.Run})
}
