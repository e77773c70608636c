// Command admin serves Herald's console.
package main

import (
	"context"
	"time"

	"github.com/herald-push/herald/services/admin"
	"github.com/herald-push/herald/services/internal/service"
	"github.com/herald-push/herald/web"
)

// stopTimeout is shorter than Kubernetes' grace period of 30 s: requests
// under way have 5 s.
const stopTimeout = 15 * time.Second

func main() { service.Main(spec()) }

func spec() service.Spec {
	cfg := admin.DefaultConfig()
	return service.Spec{
		Name:       "admin",
		Settings:   cfg.Settings(),
		Validate:   cfg.Validate,
		Listen:     &cfg.Listen,
		Ops:        "127.0.0.1:8093",
		StopWithin: func() time.Duration { return stopTimeout },
		New: func(ctx context.Context, live service.Live) (service.Runner, error) {
			return admin.New(ctx, cfg, admin.Deps{NATS: live.NATS, Log: live.Log, Registry: live.Registry,
				Ops: live.Ops, Pages: web.FS, Stdout: live.Stdout})
		},
	}
}
