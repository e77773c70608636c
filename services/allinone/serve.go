package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway"
	"github.com/herald-push/herald/services/ingest"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/lifecycle"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/herald-push/herald/services/internal/tracing"
	"github.com/herald-push/herald/services/logger"
	"github.com/herald-push/herald/web"
	"github.com/nats-io/nats.go"
)

// stopTimeout bounds the whole goodbye beyond the drain window. Docker waits
// 10 s before it kills, Kubernetes 30.
const stopTimeout = 15 * time.Second

// serve runs everything until ctx ends. With -health it only asks the Herald
// that runs already.
func serve(ctx context.Context, args []string, env config.Env, std streams) error {
	var health bool
	cfg, rest, notes, err := loadConfig("herald", args, env, std.out,
		config.Setting{Flag: "health", Help: "ask the Herald that runs here whether it is ready, and exit with 0 if it is", Into: &health})
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("serve takes no arguments, only settings: %q", rest)
	}
	if health {
		return httpx.Health(ctx, cfg.Listen, cfg.Gateway.CertFile)
	}
	log, err := telemetry.NewLogger(std.err, "herald", cfg.Log)
	if err != nil {
		return err
	}
	for _, note := range notes {
		log.Warn(note)
	}

	tracer, stopTracing, err := tracing.Start(ctx, "herald", env, log)
	if err != nil {
		return err
	}
	defer stopTracing()

	// The port comes first: it is what most often is taken, and nothing has
	// been touched yet.
	registry := telemetry.NewRegistry()
	ops := telemetry.NewOps(registry)
	router := httpx.NewRouter(log)
	server, err := httpx.NewServer(httpx.ServerConfig{
		Listen: cfg.Listen, CertFile: cfg.Gateway.CertFile, KeyFile: cfg.Gateway.KeyFile, Grace: cfg.Ingest.Drain,
		MaxPerAddress: cfg.Gateway.PerAddress(), Proxies: cfg.Ingest.TrustedProxies, Words: gateway.Words,
	}, router, log)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; another program has the port: stop it, or choose another one with -listen :5001", err)
	}
	if err != nil {
		return err
	}
	folder, err := openData(cfg.Data)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	defer folder.close()
	broker, err := startBroker(cfg, folder, log)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	defer broker.close()

	var firstKey atomic.Pointer[string]
	connect := func(name string) (*nats.Conn, error) {
		nc, err := broker.connect("herald-" + name)
		if err == nil {
			broker.onClose(nc.Close)
		}
		return nc, err
	}
	if err := broker.prepare(ctx, cfg); err != nil {
		return errors.Join(err, server.Close())
	}
	var in *ingest.Service
	var gw *gateway.Service
	var lg *logger.Service
	for _, part := range []struct {
		name string
		make func(nc *nats.Conn) error
	}{
		{"ingest", func(nc *nats.Conn) (err error) {
			in, err = ingest.New(ctx, cfg.Ingest, ingest.Deps{NATS: nc, Log: log, Registry: registry, Ops: ops, Tracer: tracer,
				Announce: func(secret string) { firstKey.Store(&secret) }})
			return err
		}},
		{"gateway", func(nc *nats.Conn) (err error) {
			gw, err = gateway.New(ctx, cfg.Gateway, gateway.Deps{NATS: nc, Log: log, Registry: registry, Ops: ops, Pages: web.FS, Tracer: tracer, Admission: server.Admission()})
			return err
		}},
		{"logger", func(nc *nats.Conn) (err error) {
			lg, err = logger.New(ctx, cfg.Logger, logger.Deps{NATS: nc, Log: log, Registry: registry, Ops: ops})
			return err
		}},
	} {
		nc, err := connect(part.name)
		if err == nil {
			err = part.make(nc)
		}
		if err != nil {
			return errors.Join(err, server.Close())
		}
	}
	in.Mount(router)
	gw.Mount(router)
	lg.Mount(router)
	ops.Mount(router)

	greet := func(ctx context.Context) error {
		if awaitReady(ctx, ops) {
			banner(std.out, cfg, server.Addr(), firstKey.Load())
		}
		<-ctx.Done()
		return nil
	}
	return lifecycle.Run(ctx, log, cfg.Ingest.Drain+stopTimeout,
		lifecycle.Part{Name: "logger", Run: lg.Run}, // last to stop: it stores what the others still publish
		lifecycle.Part{Name: "ingest", Run: in.Run},
		lifecycle.Part{Name: "http", Run: server.Run},
		lifecycle.Part{Name: "gateway", Run: gw.Run}, // first to stop: http would cut its event streams off
		lifecycle.Part{Name: "greeting", Run: greet},
	)
}

// awaitReady waits until every service is ready; false means that ctx ended.
func awaitReady(ctx context.Context, ops *telemetry.Ops) bool {
	for {
		if ops.Ready(ctx) == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// banner tells a person what runs, where, and what to type first.
func banner(w io.Writer, cfg Config, addr net.Addr, firstKey *string) {
	scheme, ws := "http", "ws"
	if cfg.Gateway.CertFile != "" {
		scheme, ws = "https", "wss"
	}
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = "localhost"
	}
	at := net.JoinHostPort(host, port)
	var b strings.Builder
	fmt.Fprintf(&b, "\nHerald %s is ready.\n\n", telemetry.BuildVersion())
	fmt.Fprintf(&b, "  Page        %s://%s/\n", scheme, at)
	fmt.Fprintf(&b, "  WebSocket   %s://%s/ws\n", ws, at)
	fmt.Fprintf(&b, "  Data        %s\n", cfg.Data)
	key := "YOUR-KEY"
	if firstKey != nil {
		key = *firstKey
		fmt.Fprintf(&b, "  API key:    %s\n", key)
		fmt.Fprint(&b, "              Keep it: it is shown this once, Herald stores only its digest.\n")
	} else if cfg.Ingest.APIKey != "" {
		fmt.Fprint(&b, "  API key     the one in HERALD_API_KEY; its messages have the sender env\n")
	} else {
		fmt.Fprint(&b, "  API keys    herald keys list; a lost one is replaced by: herald keys rotate NAME\n")
	}
	fmt.Fprintf(&b, "\nOpen the page, then send it something:\n\n  curl -H \"X-API-KEY: %s\" -d 'Hello, browser' %s://%s/v1/channels/%s\n\n", key, scheme, at, proto.Broadcast)
	_, _ = w.Write([]byte(b.String())) // a closed terminal does not stop the service
}
