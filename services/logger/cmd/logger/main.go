// Command logger writes Herald's messages into an SQLite file and answers
// history.
package main

import (
	"context"
	"time"

	"github.com/herald-push/herald/services/internal/service"
	"github.com/herald-push/herald/services/logger"
)

// stopTimeout is shorter than Kubernetes' grace period of 30 s: requests
// under way have 5 s, the last batches 2 s, closing the file the rest.
const stopTimeout = 20 * time.Second

func main() { service.Main(spec()) }

func spec() service.Spec {
	cfg := logger.DefaultConfig()
	return service.Spec{
		Name:       "logger",
		Settings:   cfg.Settings(),
		Validate:   cfg.Validate,
		Listen:     &cfg.Listen,
		Ops:        "127.0.0.1:8092",
		StopWithin: func() time.Duration { return stopTimeout },
		New: func(ctx context.Context, live service.Live) (service.Runner, error) {
			return logger.New(ctx, cfg, logger.Deps{NATS: live.NATS, Log: live.Log, Registry: live.Registry,
				Ops: live.Ops, Settings: live.Settings})
		},
	}
}
