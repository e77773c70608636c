package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/services/admin"
	"github.com/herald-push/herald/services/gateway"
	"github.com/herald-push/herald/services/ingest"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/lifecycle"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/herald-push/herald/services/internal/service"
	"github.com/herald-push/herald/services/internal/settings"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/herald-push/herald/services/internal/tracing"
	"github.com/herald-push/herald/services/logger"
	"github.com/herald-push/herald/web"
	"github.com/nats-io/nats.go"
)

// stopTimeout bounds the whole goodbye beyond the drain window. Docker waits
// 10 s before it kills, Kubernetes 30.
const stopTimeout = 15 * time.Second

var serveCommand = command{
	name: "serve", does: "run everything in this process (also without a command)",
	about: `
Runs all of Herald in this process until Ctrl-C or SIGTERM; herald without a command does the same. The first
start makes an API key and shows it once.`,
	examples: []string{
		"herald",
		"herald -listen localhost:5001 -data /var/lib/herald",
		"herald serve -health                # for health checks: is the one that runs here ready?",
	},
	start: func(c *call) task {
		cfg, health := defaultConfig(), false
		t := task{settings: []config.Setting{
			{Flag: "health", Help: "ask the Herald that runs here whether it is ready, and exit with 0 if it is",
				Into: &health},
		}}
		notes := cfg.read(c, &t)
		t.run = func(ctx context.Context, words []string) error {
			if err := cfg.complete(); err != nil {
				return err
			}
			switch {
			case len(words) > 0:
				return fmt.Errorf("serve takes no arguments, only settings: %q", words)
			case health:
				return httpx.Health(ctx, cfg.Listen, cfg.Gateway.CertFile, cfg.operatorsAddress())
			}
			return serve(ctx, cfg, t.settings, notes, c)
		}
		return t
	},
}

// serve runs everything until ctx ends. That it ends before everything has started is no error.
func serve(ctx context.Context, cfg Config, table []config.Setting, notes []string, c *call) (err error) {
	starting := true
	defer func() {
		if starting && errors.Is(err, context.Canceled) && interrupted(ctx) != nil {
			err = nil // what was asked of NATS by then was broken off
		}
	}()
	std := c.std
	log, level, err := telemetry.NewLogger(std.err, "herald", cfg.Log)
	if err != nil {
		return err
	}
	defer lifecycle.OutliveHangup(log)()
	log, started := newStartLog(log)
	changing := settings.New(table, log)
	changing.Add(service.LogPart("herald", cfg.Log, level))
	for _, note := range notes {
		log.Warn(note)
	}

	tracer, stopTracing, err := tracing.Start(ctx, "herald", c.env, log)
	if err != nil {
		return err
	}
	defer stopTracing()

	// The port comes first: it is what most often is taken, and nothing has
	// been touched yet.
	registry := telemetry.NewRegistry("herald")
	ops := telemetry.NewOps(registry)
	router := httpx.NewRouter(log)
	server, err := httpx.NewServer(httpx.ServerConfig{
		Listen: cfg.Listen, CertFile: cfg.Gateway.CertFile, KeyFile: cfg.Gateway.KeyFile, Grace: cfg.Ingest.Drain,
		MaxPerAddress: cfg.Gateway.PerAddress(), Proxies: cfg.Ingest.TrustedProxies, Hosts: cfg.Ingest.Hosts,
		Words: gateway.Words,
	}, router, log)
	if httpx.PortTaken(err) {
		return portTaken(ctx, cfg, err)
	}
	if err != nil {
		return err
	}
	operators, err := cfg.Ops.Server(ops, log)
	if err != nil {
		return errors.Join(fmt.Errorf("ops-listen: %w", err), server.Close())
	}
	if operators != nil {
		defer func() { _ = operators.Close() }() // Run closes it, too
	}
	folder, err := openData(cfg.Data)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	defer folder.close()
	forgetPage(cfg.Data) // of a Herald that was killed
	defer forgetPage(cfg.Data)
	forget, err := noteOperators(cfg.Data, operators, log)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	defer forget()
	keepSecret, err := cfg.ownTokenSecret(log)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	broker, err := startBroker(cfg, folder, log)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	defer broker.close()

	var firstKey atomic.Pointer[string]
	firstUser := announcement{out: std.out, again: again(cfg)}
	connect := func(name string, log *slog.Logger) (*nats.Conn, error) {
		nc, err := broker.connect("herald-"+name, log)
		if err == nil {
			broker.onClose(nc.Close)
		}
		return nc, err
	}
	if err := broker.prepare(ctx, cfg); err != nil {
		return errors.Join(err, server.Close())
	}
	all := &voices{}
	settingsConn, err := connect("settings", all.of("settings", log))
	if err != nil {
		return errors.Join(err, server.Close())
	}
	var in *ingest.Service
	var gw *gateway.Service
	var lg *logger.Service
	moves := newRelisten(server, cfg, table, fileOf(c), log)
	moves.moved = func(now admin.Listen, addr net.Addr) { movedPage(cfg, now, addr, log) }
	defer moves.close()
	var console *admin.Service
	for _, part := range []struct {
		name string
		make func(nc *nats.Conn, log *slog.Logger) error
	}{
		{"ingest", func(nc *nats.Conn, log *slog.Logger) (err error) {
			in, err = ingest.New(ctx, cfg.Ingest, ingest.Deps{NATS: nc, Log: log, Registry: registry, Ops: ops,
				Tracer: tracer, Store: broker.stores(), Settings: changing,
				Announce: func(secret string) { firstKey.Store(&secret) }})
			return err
		}},
		{"gateway", func(nc *nats.Conn, log *slog.Logger) (err error) {
			gw, err = gateway.New(ctx, cfg.Gateway, gateway.Deps{NATS: nc, Log: log, Registry: registry, Ops: ops,
				Pages: web.FS, Tracer: tracer, Index: in.Index(), Admission: server.Admission(), Settings: changing,
				// Nobody is served before it is made.
				Console: func(r *http.Request) bool { return console.OpenTo(r) }})
			return err
		}},
		{"logger", func(nc *nats.Conn, log *slog.Logger) (err error) {
			lg, err = logger.New(ctx, cfg.Logger, logger.Deps{NATS: nc, Log: log, Registry: registry, Ops: ops,
				Optional: true, Settings: changing})
			return err
		}},
		{"admin", func(nc *nats.Conn, log *slog.Logger) (err error) {
			console, err = admin.New(ctx, cfg.Admin, admin.Deps{NATS: nc, Log: log, Registry: registry, Ops: ops,
				Pages: web.FS, Single: true, Listener: moves, Announce: firstUser.announce})
			return err
		}},
	} {
		log := all.of(part.name, log)
		nc, err := connect(part.name, log)
		if ctx.Err() != nil { // a NATS elsewhere that hangs took its time
			err = context.Cause(ctx)
		}
		if err == nil {
			err = part.make(nc, log)
		}
		if err != nil {
			return errors.Join(err, server.Close())
		}
	}
	in.Mount(router)
	gw.Mount(router)
	lg.Mount(router)
	console.Mount(router)
	ops.Mount(router)

	greet := func(ctx context.Context) error {
		if awaitReady(ctx, ops) {
			started()
			log.Info("ready", "addr", server.Addr().String(), "ops", addrOf(operators), "version",
				telemetry.BuildVersion())
			g := greeting{cfg: cfg, addr: server.Addr(), keyFile: c.env.Get("HERALD_API_KEY_FILE")}
			g.keys, g.envKey = broker.keyNames(ctx, cfg.Ingest.APIKey)
			if secret := firstKey.Load(); secret != nil {
				g.firstKey = *secret
			}
			g.firstUser, g.firstPassword = firstUser.greet()
			notePage(cfg.Data, g.page(), log)
			g.write(std.out)
			if c.ready != nil {
				c.ready(&g, broker)
			}
		}
		<-ctx.Done()
		return nil
	}
	defer context.AfterFunc(ctx, started)() // what happens from now on is of interest: it stops
	parts := []lifecycle.Part{
		{Name: "logger", Run: lg.Run}, // last to stop: it stores what the others still publish
		{Name: "settings", Run: func(ctx context.Context) error { return changing.Run(ctx, settingsConn) }},
		{Name: "ingest", Run: in.Run},
		{Name: "http", Run: func(ctx context.Context) error {
			defer context.AfterFunc(ctx, in.Drain)() // or the server would wait for streams of lines without an end
			return server.Run(ctx)
		}},
		{Name: "gateway", Run: gw.Run}, // first to stop: http would cut its event streams off
		{Name: "admin", Run: console.Run},
		{Name: "greeting", Run: greet},
	}
	if keepSecret != nil {
		parts = append(parts, lifecycle.Part{Name: "token secret", Run: keepSecret})
	}
	if operators != nil {
		parts = append([]lifecycle.Part{{Name: "ops", Run: operators.Run}}, parts...) // it tells how the others stop
	}
	starting = false
	return lifecycle.Run(ctx, log, cfg.Gateway.DrainDelay+cfg.Ingest.Drain+stopTimeout, parts...)
}

// portTaken is the error of a start whose port something else has: how to choose another,
// and where the Herald is that has it.
func portTaken(ctx context.Context, cfg Config, err error) error {
	err = fmt.Errorf("%w with -listen or HERALD_LISTEN, such as localhost:5001", err)
	if page := runningPage(ctx, cfg); page != "" {
		return fmt.Errorf("%w; it is a Herald: %s", err, page)
	}
	return err
}

// awaitReady waits until every service is ready; false means that ctx ended.
func awaitReady(ctx context.Context, ops *telemetry.Ops) bool {
	return retry.Policy{Pause: 20 * time.Millisecond}.Until(ctx, ops.Ready) == nil
}
