package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/gateway/internal/sse"
	"github.com/herald-push/herald/services/internal/httpx"
)

var asEvent = hub.NewEncoding(slotEvent, func(m *hub.Message) []byte { return sse.Message(m.ID, m.Body) })

// inEvents words everything as Server-Sent Events.
var inEvents = &wording{
	format:   eventFormat,
	confirms: true,
	message:  asEvent,
	single:   asEvent,
	control:  event,
	welcome:  eventWelcome,
	place:    sse.Place,
	moved:    sse.Place,
}

var eventFormat = &conn.Format{Name: "sse", Heartbeat: sse.Heartbeat, Goodbye: func(code proto.CloseCode) []byte {
	return append(sse.Retry(comeBackAfter(code)), sse.Close(code)...)
}}

// eventWelcome says, too, when to come back after a loss without a goodbye.
func eventWelcome(f proto.Welcome, last bool) []byte {
	id := f.ID
	if last {
		id = "" // older messages follow, and place comes after them
	}
	return append(sse.Retry(between(500*time.Millisecond, 3*time.Second)), sse.Control(f.Type, id, f)...)
}

// event words a control frame that a client which cannot send may get. An
// EventSource has an event "error" of its own, so ours is called "problem".
func event(frame any) []byte {
	switch f := frame.(type) {
	case proto.Welcome:
		return eventWelcome(f, false)
	case proto.Subscribed:
		return sse.Control(f.Type, "", f) // other channels may be behind its id
	case proto.Unsubscribed:
		return sse.Control(f.Type, "", f)
	case proto.Gap:
		if f.Channel != "" {
			return sse.Control(f.Type, "", f)
		}
		return sse.Control(f.Type, f.ID, f)
	case proto.ErrorFrame:
		return sse.Control("problem", "", f)
	}
	panic(fmt.Sprintf("gateway: no event for %T", frame))
}

// comeBackAfter is when an EventSource, which comes back after every end and
// knows no jitter, does so: random, so that those who were closed together do not
// return together; an hour where it should stay away.
func comeBackAfter(code proto.CloseCode) time.Duration {
	switch {
	case !code.ComeBack():
		return time.Hour
	case code == proto.CloseOverload, code == proto.CloseTooManyConnections, code == proto.CloseTokenEarly:
		return between(5*time.Second, 15*time.Second)
	default:
		return between(100*time.Millisecond, time.Second)
	}
}

func between(low, high time.Duration) time.Duration { return low + rand.N(high-low) }

// serveEvents admits one client. An EventSource gives up for good on any
// status but 200, and comes back after the end of any 200: so what is to be
// tried again ends a stream that says when, and everything else is a problem.
func (s *Service) serveEvents(w http.ResponseWriter, r *http.Request) {
	page, ok := s.allowPage(w, r)
	if !ok {
		return
	}
	if reason, away := s.away(); away {
		s.turnAway(w, r, reason, proto.CloseRestart, "this gateway is "+reason)
		return
	}
	remote := s.clientIP(r)
	if crowded(r) == nil { // who cannot stay waits for nothing
		s.wait(s.shares.pay(remote, costOf(r)), func() bool { return r.Context().Err() != nil })
	}
	sess := s.newSession(r, page, inEvents)
	switch refused := sess.asked.refused; {
	case refused == nil:
	case refused.passes():
		eventHeaders(w)
		_, _ = w.Write(event(proto.ErrorFrame{Type: proto.FrameError, Code: refused.code.String(),
			Detail: refused.err.Error()}))
		s.turnAway(w, r, refused.code.String(), refused.code, refused.err.Error())
		return
	default:
		problem := refused.problem()
		s.refused(r, refused.code.String(), problem.Status, refused.code, problem.Error())
		httpx.WriteProblem(w, r, s.log, problem)
		return
	}
	eventHeaders(w)
	if r.Method == http.MethodHead {
		return
	}
	err := s.conns.Respond(&sess.conn, w, r, remote, httpx.NewID(), sess.words.format, sess)
	if err != nil {
		s.turnAway(w, r, "stopping", proto.CloseRestart, "this gateway is stopping")
	}
}

// allowReadingPreflight is allowPreflight where nothing but reading is allowed.
func (s *Service) allowReadingPreflight(w http.ResponseWriter, r *http.Request) {
	s.allowPreflight(w, r, "GET, HEAD")
}

// turnAway ends a stream that has not begun.
func (s *Service) turnAway(w http.ResponseWriter, r *http.Request, reason string, code proto.CloseCode, detail string) {
	s.refused(r, reason, http.StatusOK, code, detail)
	eventHeaders(w)
	_, _ = w.Write(eventFormat.Goodbye(code)) // who hung up misses nothing
}

func eventHeaders(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store, no-transform") // a proxy that compresses holds events back
	w.Header().Set("X-Accel-Buffering", "no")                 // nginx holds answers back otherwise
}

// passes reports whether time alone may change the answer to the same request.
// An expired token is one that comes back, too, but not with the same URL.
func (r *refusal) passes() bool { return r.code.ComeBack() && r.code != proto.CloseTokenExpired }

// problem is the refusal as an HTTP answer.
func (r *refusal) problem() *proto.Problem {
	switch r.code {
	case proto.CloseTokenInvalid, proto.CloseTokenExpired:
		return proto.ProblemUnauthorized.With(r.err.Error())
	case proto.CloseForbidden:
		return proto.ProblemForbidden.With(r.err.Error())
	default:
		return proto.ProblemInvalidParameter.With(r.err.Error())
	}
}
