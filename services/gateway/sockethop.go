package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/nats-io/nats.go"
)

// hops passes requests of sessions that poll on to the gateway that has the session, so
// that a balancer may send each request anywhere. The sid names that gateway, which
// answers on a NATS subject of its own. When it is gone, NATS says that nobody
// listens, the client is told that its session is unknown, and it begins another one.
//
// A request is small (one frame of a client), a response at most what one poll takes. Who
// waits for a response is the client's HTTP request, for as long as the client
// itself would; when the client hangs up, the owner is told, since what it would
// answer would be lost.
type hops struct {
	nc     *nats.Conn
	engine *engineio.Server
	node   string
	wait   time.Duration // longest for a response

	running sync.WaitGroup // requests that are served for other gateways, and watches of those
	owners  owners

	mu   sync.Mutex
	cuts map[string]context.CancelFunc // guarded by mu; of what is running, by id
}

// hop is one request on its way, as JSON.
type hop struct {
	ID  string `json:"id"`
	Cut bool   `json:"cut,omitempty"` // the client of the request with this id has hung up
	// Alive asks for a sign of life: any answer.
	Alive bool           `json:"alive,omitempty"`
	Q     engineio.Query `json:"q"`
	// Step is one of a WebSocket; empty: the hop is a GET or POST.
	Step engineio.Step `json:"step,omitempty"`
	// Method, Body and Binary are those of engineio.Server.Serve.
	Method string `json:"method,omitempty"`
	Body   []byte `json:"body,omitempty"`
	Binary bool   `json:"binary,omitempty"`
}

func newHops(nc *nats.Conn, engine *engineio.Server, node string, wait time.Duration) *hops {
	h := &hops{nc: nc, engine: engine, node: node, wait: wait, cuts: map[string]context.CancelFunc{}}
	h.owners = owners{nc: nc, running: &h.running, known: map[string]*watched{}}
	return h
}

// hopSubject is where a gateway answers.
func hopSubject(node string) string { return "herald.socketio." + node }

// drainRequests bounds the wait for NATS when a gateway stops answering.
const drainRequests = 2 * time.Second

// node is the form of a gateway's id: what a client sends must not become another subject.
var node = regexp.MustCompile(`^[0-9a-z]{1,40}$`)

// listen answers other gateways until ctx ends; wait returns when the last answer is
// given.
func (h *hops) listen(ctx context.Context) (wait func(), err error) {
	sub, err := h.nc.Subscribe(hopSubject(h.node), func(m *nats.Msg) { h.receive(ctx, m) })
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", hopSubject(h.node), err)
	}
	closed := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(closed) })
	return func() {
		<-ctx.Done()
		// Requests that NATS has handed over by now are answered: who sent them would wait.
		if sub.Drain() == nil { // it fails only when the connection is closed
			select {
			case <-closed:
			case <-time.After(drainRequests):
			}
		}
		h.owners.finish()
		h.running.Wait()
	}, nil
}

// receive serves one request. NATS calls it, so it does not block.
func (h *hops) receive(ctx context.Context, m *nats.Msg) {
	var r hop
	if json.Unmarshal(m.Data, &r) != nil { // no gateway's
		return
	}
	if r.Alive {
		respond(m, engineio.Response{Status: http.StatusOK})
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil && !r.Cut { // the sessions are gone
		respond(m, engineio.UnknownSID.Response())
		return
	}
	if r.Cut {
		if cut := h.cuts[r.ID]; cut != nil {
			cut()
		}
		return
	}
	if !h.engine.Has(r.Q.SID) {
		respond(m, engineio.UnknownSID.Response())
		return
	}
	ctx, cut := context.WithTimeout(ctx, h.wait)
	h.cuts[r.ID] = cut
	h.running.Go(func() { // ends with its response, or with ctx
		defer func() {
			cut()
			h.mu.Lock()
			delete(h.cuts, r.ID)
			h.mu.Unlock()
		}()
		if r.Step != "" {
			respond(m, h.engine.Step(r.Q, r.Step))
			return
		}
		respond(m, h.engine.Serve(ctx, r.Q, r.Method, r.Body, r.Binary))
	})
}

func respond(m *nats.Msg, response engineio.Response) {
	b, _ := json.Marshal(response) // a plain struct always marshals
	_ = m.Respond(b)               // the other gateway waits no longer than its client
}

// elsewhere reports whether another gateway has the session with this sid.
func (h *hops) elsewhere(sid string) bool {
	owner, _, _ := strings.Cut(sid, ".")
	return owner != h.node && node.MatchString(owner)
}

// pass serves a request of a session that polls: here, or where the session is.
func (h *hops) pass(ctx context.Context, q engineio.Query, method string, body []byte, binary bool) engineio.Response {
	if !h.elsewhere(q.SID) {
		return h.engine.Serve(ctx, q, method, body, binary)
	}
	return h.ask(ctx, hop{Q: q, Method: method, Body: body, Binary: binary})
}

// step tells the gateway that has the session of a step of a WebSocket here.
func (h *hops) step(ctx context.Context, q engineio.Query, step engineio.Step) engineio.Response {
	return h.ask(ctx, hop{Q: q, Step: step})
}

// ask has another gateway answer.
func (h *hops) ask(ctx context.Context, r hop) engineio.Response {
	owner, _, _ := strings.Cut(r.Q.SID, ".")
	r.ID = httpx.NewID()
	send := func(r hop) *nats.Msg {
		b, _ := json.Marshal(r) // a plain struct always marshals
		return &nats.Msg{Subject: hopSubject(owner), Data: b}
	}
	waiting, stop := context.WithTimeout(ctx, h.wait)
	defer stop()
	gone, leave := h.owners.watch(owner)
	defer leave()
	defer context.AfterFunc(gone, stop)()
	m, err := h.nc.RequestMsgWithContext(waiting, send(r))
	switch {
	case errors.Is(err, nats.ErrNoResponders) || err != nil && gone.Err() != nil:
		return engineio.UnknownSID.Response()
	case err != nil:
		_ = h.nc.PublishMsg(send(hop{ID: r.ID, Cut: true})) // if it does not arrive, the session ends by its heartbeat
		return engineio.Refusal(http.StatusServiceUnavailable, int(engineio.BadRequest),
			"the gateway that has this session does not answer; connect again")
	}
	var response engineio.Response
	if json.Unmarshal(m.Data, &response) != nil || response.Status < http.StatusOK {
		return engineio.Refusal(http.StatusBadGateway, int(engineio.BadRequest),
			"the gateway that has this session speaks another version; connect again")
	}
	return response
}
