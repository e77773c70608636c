// Command ingest accepts messages over HTTP and stores them in NATS JetStream.
package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/herald-push/herald/services/ingest"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/service"
	"github.com/herald-push/herald/services/internal/tracing"
	"go.opentelemetry.io/otel/trace"
)

func main() { service.Main(spec()) }

func spec() service.Spec {
	cfg := ingest.DefaultConfig()
	var tracer trace.Tracer
	return service.Spec{
		Name:     "ingest",
		Settings: cfg.Settings(),
		Validate: cfg.Validate,
		Listen:   &cfg.Listen,
		Ops:      "127.0.0.1:8090",
		// A request leaves 6 KB of garbage, and of little else is there much: at 100 a twelfth of a POST was its
		// collection.
		GCPercent:  400,
		StopWithin: func() time.Duration { return cfg.Drain + 5*time.Second },
		Trace: func(ctx context.Context, env config.Env, log *slog.Logger) (stop func(), err error) {
			tracer, stop, err = tracing.Start(ctx, "herald-ingest", env, log)
			return stop, err
		},
		New: func(ctx context.Context, live service.Live) (service.Runner, error) {
			return ingest.New(ctx, cfg, ingest.Deps{NATS: live.NATS, Log: live.Log, Registry: live.Registry,
				Ops: live.Ops, Settings: live.Settings, Tracer: tracer, Stdout: live.Stdout})
		},
	}
}
