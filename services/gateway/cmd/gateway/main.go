// Command gateway holds clients and pushes to them what NATS JetStream stores.
package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/herald-push/herald/services/gateway"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/service"
	"github.com/herald-push/herald/services/internal/tracing"
	"github.com/herald-push/herald/web"
	"go.opentelemetry.io/otel/trace"
)

func main() { service.Main(spec()) }

func spec() service.Spec {
	cfg := gateway.DefaultConfig()
	var tracer trace.Tracer
	return service.Spec{
		Name:       "gateway",
		Settings:   cfg.Settings(),
		Validate:   cfg.Validate,
		Listen:     &cfg.Listen,
		Ops:        "127.0.0.1:8091",
		CertFile:   &cfg.CertFile,
		StopWithin: func() time.Duration { return cfg.DrainDelay + cfg.Drain + 10*time.Second },
		Trace: func(ctx context.Context, env config.Env, log *slog.Logger) (stop func(), err error) {
			tracer, stop, err = tracing.Start(ctx, "herald-gateway", env, log)
			return stop, err
		},
		New: func(ctx context.Context, live service.Live) (service.Runner, error) {
			return gateway.New(ctx, cfg, gateway.Deps{NATS: live.NATS, Log: live.Log, Registry: live.Registry,
				Ops: live.Ops, Settings: live.Settings, Tracer: tracer, Pages: web.FS})
		},
	}
}
