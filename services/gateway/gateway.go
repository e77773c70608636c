// Package gateway holds clients, follows the stream, and pushes.
//
// Messages flow one way: NATS → feed (order, repair) → hub (subscriptions) →
// conn (socket). A session is one client: it words control frames, checks
// permissions, and brings a client that comes back up to date.
//
// Order holds across channels, not only within one, so that the newest id that
// a client has seen never skips a message of any channel it follows:
//
//   - there is one stream, whose sequence is the order, and one subscription to
//     all of it on one NATS connection; the feed hands a message on only after
//     the one with the sequence before it, fetched if need be;
//   - every shard of the hub gets all messages in that order, and a connection
//     belongs to one shard for life;
//   - what was missed is sent before the connection goes live, merged over all
//     of its channels by sequence, and the step to live is one command in the
//     shard's own order.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/gateway/internal/socketio"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/chanindex"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/pusher"
	"github.com/herald-push/herald/services/internal/settings"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Deps are the live things a gateway uses. The caller owns and closes them.
type Deps struct {
	NATS     *nats.Conn
	Log      *slog.Logger
	Registry prometheus.Registerer
	Ops      *telemetry.Ops
	// Index is kept by the caller, for several services; nil: the gateway has its own.
	Index *chanindex.Index
	Pages fs.FS // the demo page; nil: none
	// Console reports whether the page may offer the console, below admin/, to who sends the
	// request. Nil: there is none here.
	Console  func(*http.Request) bool
	Settings *settings.Live // nil: none changes while the gateway runs
	Tracer   trace.Tracer   // nil: no spans
	// Admission is that of the server that Mount's routes are on, unless the
	// gateway has a listener of its own. Nil: nobody counts the sockets.
	Admission *httpx.Admission
}

// Service is one gateway. New wires it, Run runs it.
type Service struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	m        *metrics
	hub      *hub.Hub
	index    *chanindex.Index
	follow   func(ctx context.Context) // keeps index; nil: somebody else does
	reader   *natsx.Reader             // of the stream
	feed     *feed
	conns    *conn.Set
	ips      *perIP
	sharing  *sharing // of ips
	shares   *shares
	verifier *auth.Verifier
	rules    atomic.Pointer[rules]
	changed  chan struct{} // has one when rules were changed and enforce has not begun; never closed
	pages    pageNumbers
	server   *httpx.Server    // nil without a listener of its own
	sockets  *httpx.Admission // nil: nobody counts them
	deflate  compression
	frames   frames           // for WebSocket clients
	socketIO *socketWords     // for Socket.IO clients
	engine   *engineio.Server // for Socket.IO clients
	hops     *hops
	// pids signs what they show to recover their state; nil until shareSecret has the secret.
	pids    atomic.Pointer[socketio.Signer]
	apps    *apps    // of the Pusher protocol
	answers *answers // for the console

	strangers strangers // pages that were refused
	forwarded sync.Once // X-Forwarded-For of a peer that is no trusted proxy was reported

	// replays bounds what clients that read from the stream hold in memory.
	replays   *budget
	draining  atomic.Bool
	drainPace time.Duration // defaultDrainPace; tests set another before they end the gateway

	// replaying ends while the gateway drains, once every client was sent its close
	// frame: replays under way stop then.
	replaying  context.Context
	endReplays context.CancelFunc
}

// New wires a gateway and binds its listener. ctx bounds the first fetch of a
// JWKS URL.
func New(ctx context.Context, cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	verifier, err := auth.NewVerifier(ctx, auth.VerifierConfig{
		Secret: cfg.JWTSecret, SecretFile: cfg.JWTSecretFile, JWKS: cfg.JWKS, Audience: cfg.Audience,
		Issuer: cfg.Issuer,
	}, deps.Log)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, deps: deps, log: deps.Log,
		m: newMetrics(deps.Registry),
		conns: conn.NewSet(conn.Config{MaxQueueBytes: cfg.MaxQueueBytes, Heartbeat: cfg.Heartbeat,
			Deflate: cfg.CompressAbove > 0, MaxSmallFrames: maxSmallFrames}, deps.Registry),
		ips:      newPerIP(cfg.MaxPerIP, cfg.LimitDryRun),
		shares:   newShares(cfg.PerAddress() == 0),
		verifier: verifier,
		changed:  make(chan struct{}, 1),
		replays:  newBudget(replayBudget),
		sockets:  deps.Admission, drainPace: defaultDrainPace,
	}
	s.rules.Store(newRules(cfg))
	s.apps = &apps{known: &pusher.Apps{}, running: map[string]*app{}, s: s}
	s.deflate = compression{cfg.CompressAbove, s.m.compressed.Inc}
	s.frames = s.deflate.both(inFrames, slotFrameDeflated)
	s.socketIO = newSocketWords(s.deflate)
	s.hub = hub.New(hub.Config{
		Shards: shards(), InboxMessages: liveBuffer,
		RecentMessages: cfg.RecentMessages, RecentBytes: cfg.RecentBytes,
	}, hub.NewMetrics(deps.Registry))
	if s.index = deps.Index; s.index == nil {
		s.index = chanindex.New()
		s.follow = func(ctx context.Context) { s.index.Run(ctx, deps.NATS, deps.Log) }
	}
	s.reader = natsx.NewReader(deps.NATS, s.index)
	id := httpx.NewID()
	s.engine = engineio.NewServer(engineio.Config{
		Conns: s.conns, Node: id, PingInterval: cfg.Heartbeat, PingTimeout: cfg.Heartbeat * 4 / 5,
		MaxPayload: maxPayload, Subprotocol: proto.Subprotocol,
	})
	s.answers = newAnswers(s, id)
	s.hops = newHops(deps.NATS, s.engine, id, cfg.Heartbeat*9/5)
	s.feed = newFeed(deps.NATS, s.reader, s.hub, deps.Log, s.m, deps.Tracer, id)
	s.sharing = &sharing{ips: s.ips, nc: deps.NATS, log: deps.Log, id: id, known: map[string]time.Time{}}
	s.replaying, s.endReplays = context.WithCancel(context.Background())
	if cfg.Listen != "" {
		r := httpx.NewRouter(deps.Log)
		s.Mount(r)
		deps.Ops.Mount(r)
		s.server, err = httpx.NewServer(httpx.ServerConfig{
			Listen: cfg.Listen, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile,
			MaxPerAddress: cfg.PerAddress(), Proxies: cfg.TrustedProxies, Hosts: cfg.Hosts, Words: Words,
		}, r, deps.Log)
		if err != nil {
			return nil, err
		}
		s.sockets = s.server.Admission()
	}
	deps.Settings.Add(settings.Of("gateway", cfg, (*Config).Settings, (*Config).Validate, s.apply,
		"max-connections-per-ip", "connection-limit-dry-run", "anonymous-channels", "allowed-origins",
		"replay-messages", "replay-bytes"))
	deps.Ops.AddCheck("gateway", s.ready)
	telemetry.Broker(deps.Registry, "gateway", deps.NATS.IsConnected, s.feed.reachable)
	// Who needs no token is served without the keys.
	deps.Ops.AddWarning("tokens", func(context.Context) error { return s.verifier.Ready() })
	return s, nil
}

// ready says what is missing before each of Mount's routes answers.
func (s *Service) ready(ctx context.Context) error {
	if s.draining.Load() {
		return errors.New("draining")
	}
	if err := s.feed.ready(ctx); err != nil {
		return err
	}
	switch {
	case s.pids.Load() == nil:
		return errors.New("the secret by which Socket.IO clients recover is not there yet")
	case !s.apps.loaded.Load() && !s.apps.tried.Load():
		return errors.New("the apps of Pusher's clients are not loaded yet")
	}
	return nil
}

// clientIP is the address that a client is counted under.
func (s *Service) clientIP(r *http.Request) netip.Addr {
	if len(r.Header["X-Forwarded-For"]) > 0 && !s.cfg.TrustedProxies.Proxied(r) {
		s.forwarded.Do(func() {
			s.log.Warn("a peer that is no trusted proxy sends X-Forwarded-For: if it is yours, name it in "+
				"HERALD_TRUSTED_PROXIES (-trusted-proxies); until then all clients behind it count as one address",
				"remote", r.RemoteAddr)
		})
	}
	return s.cfg.TrustedProxies.ClientIP(r)
}

// Addr is where the gateway listens; nil without a listener of its own.
func (s *Service) Addr() net.Addr {
	if s.server == nil {
		return nil
	}
	return s.server.Addr()
}

// Run serves until ctx ends, and then stops in this order: unready and
// refusing newcomers; after a delay every client told to come back elsewhere, spread over
// the drain window; the listener, the feed and the shards stopped. It returns
// when every goroutine has.
func (s *Service) Run(ctx context.Context) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	failed := make(chan error, 5)
	wg.Go(func() { s.hub.Run(inner) })
	wg.Go(func() { s.conns.Run(inner) })
	wg.Go(func() { s.apps.run(inner) })
	refresh := s.verifier.Run
	wg.Go(func() { refresh(inner) })
	wg.Go(func() { s.shareSecret(inner) })
	// Before the feed starts, which clients wait for: NATS knows by then who answers here.
	if wait, err := s.hops.listen(inner); err != nil {
		failed <- err
	} else {
		wg.Go(wait)
	}
	wg.Go(func() {
		if err := s.sharing.run(inner); err != nil {
			failed <- err
		}
	})
	if s.follow != nil {
		wg.Go(func() { s.follow(inner) })
	}
	wg.Go(func() { s.sendPlaces(inner) })
	wg.Go(func() { s.runEnforce(inner) })
	wg.Go(func() {
		if err := s.answers.run(inner); err != nil {
			failed <- err
		}
	})
	feed, stopFeed := context.WithCancel(inner)
	defer stopFeed()
	feedDone := make(chan struct{})
	wg.Go(func() {
		defer close(feedDone)
		s.deps.Settings.Await(feed, settingsPatience) // clients wait for the feed
		if err := s.feed.run(feed); err != nil && feed.Err() == nil {
			failed <- err
		}
	})
	wg.Go(func() { s.feed.watchEnd(feed) })
	serving, stopServing := context.WithCancel(inner)
	defer stopServing()
	if s.server != nil {
		wg.Go(func() {
			if err := s.server.Run(serving); err != nil {
				failed <- err
			}
		})
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("gateway: %w", err)
	}
	s.drain()
	stopServing()
	stopFeed()
	<-feedDone // the hub must receive what the feed still publishes
	stop()
	wg.Wait()
	return err
}

// defaultDrainPace shortens the window for a few clients: a hundred a second are no
// herd, and nobody likes to wait for Ctrl-C.
const defaultDrainPace = 10 * time.Millisecond

// drain closes every client with a code that says come back, and waits until they are gone.
func (s *Service) drain() {
	s.draining.Store(true)
	if s.conns.Len() > 0 {
		time.Sleep(s.cfg.DrainDelay) // unready, and still serving
	}
	begin := time.Now()
	n, pushers := s.conns.Len(), s.conns.Formats()["pusher"]
	s.sendPlacesNow()
	window := min(s.cfg.Drain, time.Duration(n)*s.drainPace)
	s.conns.Drain(context.Background(), window, proto.CloseGoingAway)
	s.endReplays()
	s.conns.Wait()
	s.log.Info("every client has left", "clients", n, "took", time.Since(begin))
	if pushers > 0 && s.sharing.alone() {
		time.Sleep(comingBack)
	}
}

// away reports whether newcomers are to be sent away now, and why.
func (s *Service) away() (reason string, away bool) {
	switch {
	case s.draining.Load():
		return "stopping", true
	case !s.feed.started.Load():
		return "starting", true
	}
	return "", false
}
