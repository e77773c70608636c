package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/herald-push/herald/services/internal/telemetry"
)

// answers are what the gateway tells the console and herald top about itself. Nothing of it is kept while nobody asks,
// except for the last refusals.
type answers struct {
	s        *Service
	process  ask.Process
	refusals ask.RefusalRing
	agents   agents

	// A moment on both clocks, so that the time at which a client came is the same in each answer.
	wall  time.Time
	mono  int64
	watch ask.Watch // keeps facts of messages
}

func newAnswers(s *Service, id string) *answers {
	return &answers{s: s, watch: ask.Watch{Switch: s.hub.Watch},
		process: ask.NewProcess(ask.Gateway, id, telemetry.BuildVersion()), wall: time.Now().Round(0),
		mono: monotonic.Now()}
}

// run answers until ctx ends.
func (a *answers) run(ctx context.Context) error {
	defer a.watch.Off()
	return ask.Serve(ctx, ask.Spec{
		NATS: a.s.deps.NATS, Log: a.s.log, Service: ask.Gateway, Instance: a.process.Instance,
		Version: a.process.Version,
		Answers: map[string]ask.Answer{
			ask.Stats:       ask.Handle(a.stats),
			ask.Connections: ask.Handle(a.connections),
			ask.Channels:    ask.Handle(a.channels),
			ask.Addresses:   ask.Handle(a.addresses),
			ask.Kick:        ask.Handle(a.kick),
			ask.MessagePath: ask.Handle(a.message),
			ask.Refusals: ask.Handle(func(_ context.Context, q ask.RefusalsQuestion) (ask.RefusalsAnswer, error) {
				return a.refusals.Find(q)
			}),
		},
	})
}

func (a *answers) stats(ctx context.Context, _ struct{}) (ask.GatewayStats, error) {
	bytes, slow := a.s.conns.Behind()
	return ask.GatewayStats{
		Process:     a.process.With(a.s.deps.Ops.Ready(ctx)),
		Connections: a.s.conns.Formats(),
		Deliveries:  uint64(ask.Counted(a.s.hub.Deliveries())),
		Latency:     ask.Observed(a.s.hub.Latency()),
		QueueBytes:  bytes, Slow: slow,
		Refused: a.refusals.Count(),
		Limit:   a.s.rules.Load().cfg.MaxPerIP,
	}, nil
}

// time is when a monotonic moment was, to the millisecond.
func (a *answers) time(mono int64) time.Time {
	return a.wall.Add(time.Duration(mono - a.mono)).Truncate(time.Millisecond).UTC()
}

// message answers what became of a message here. Asking has facts kept of those to come.
func (a *answers) message(ctx context.Context, q ask.PathQuestion) (out ask.GatewayPath, err error) {
	since := a.watch.On()
	out.Since = &since
	if q.Channel != "" {
		if out.Followers, err = a.s.hub.Followers(ctx, q.Channel); err != nil {
			return out, err
		}
	}
	if q.ID == "" {
		return out, nil
	}
	id, err := proto.ParseCursor(q.ID)
	if err != nil {
		return out, ask.Refuse(http.StatusBadRequest, "id: %v", err)
	}
	if !a.s.feed.started.Load() || a.s.feed.id(id.Seq) != id {
		return out, nil // an id of another stream, or not given out yet
	}
	fact, known, err := a.s.hub.Fact(ctx, id.Seq)
	if err != nil || !known {
		return out, err
	}
	out.Known, out.Clients, out.Queued, out.Dropped = true, fact.Clients, fact.Queued, fact.Dropped
	out.Sent = fact.Clients - fact.Queued - fact.Dropped
	out.Slowest = float64(fact.Took) / float64(time.Millisecond)
	return out, nil
}

// Fate makes a session a hub.Fated.
func (c *session) Fate() (queued, dropped bool) { return c.fate == conn.Queued, c.fate == conn.Dropped }

// refused counts and keeps a request that is refused before there is a session.
func (s *Service) refused(r *http.Request, reason string, status int, code proto.CloseCode, detail string) {
	s.m.refused.WithLabelValues(reason).Inc()
	s.answers.refusals.Add(ask.Refusal{
		Service: ask.Gateway, Instance: s.answers.process.Instance, Reason: reason, Status: status, Code: int(code),
		Address: addressText(s.clientIP(r)), Request: httpx.RequestID(r), Path: r.URL.Path, Detail: detail,
		Origin: r.Header.Get("Origin"),
	})
}

// refusedSession counts and keeps a session that is refused. Its request is over, so the id is the connection's.
func (c *session) refusedSession(r refusal) {
	c.s.m.refused.WithLabelValues(r.code.String()).Inc()
	c.s.answers.refusals.Add(ask.Refusal{
		Service: ask.Gateway, Instance: c.s.answers.process.Instance, Reason: r.code.String(), Code: int(r.code),
		Address: addressText(c.conn.Remote()), Request: c.conn.ID(), Path: pathOf[c.conn.Protocol()],
		Detail: r.err.Error(),
	})
}

// pathOf is where clients of a protocol connect.
var pathOf = map[string]string{"websocket": "/ws", "sse": "/sse", "socketio": "/socket.io/", "pusher": "/app/"}

// addressText is an address for people; empty: it is not known.
func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
