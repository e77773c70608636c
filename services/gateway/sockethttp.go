package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/gateway/internal/socketio"
	"github.com/herald-push/herald/services/internal/httpx"
)

// serveSocketIO is every request of Socket.IO clients.
func (s *Service) serveSocketIO(w http.ResponseWriter, r *http.Request) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		engineio.BadRequest.Response().Write(w, false, "")
		return
	}
	if values.Has("j") {
		nameOrigin(r)
	}
	page, ok := s.allowPage(w, r)
	if !ok {
		return
	}
	s.engine.Handle(w, r, values, engineio.Hooks{
		V3:        s.cfg.EngineIO3,
		GzipAbove: s.gzipAbove(r),
		Begin:     func(q engineio.Query) { s.beginSocketIO(w, r, q, page) },
		Pass: func(ctx context.Context, q engineio.Query, method string, body []byte, binary bool) engineio.Response {
			response := s.hops.pass(ctx, q, method, body, binary)
			if response.IsUnknown() { // what nobody opened is asked for all the same
				s.wait(s.shares.pay(s.clientIP(r), costOf(r)), func() bool { return ctx.Err() != nil })
			}
			return response
		},
		Upgrade: func(q engineio.Query) { s.upgradeSocketIO(w, r, q) },
	})
}

// nameOrigin has a page judged that loads an answer as a script: such a request has
// no Origin, and a page that may not connect could read the answer. The Referer says
// where the page is from; a request without either counts as one of a page without
// an origin.
func nameOrigin(r *http.Request) {
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") == "same-origin" {
		return
	}
	origin := "null"
	if u, err := url.Parse(r.Referer()); err == nil && u.Scheme != "" && u.Host != "" {
		origin = u.Scheme + "://" + u.Host
	}
	r.Header.Set("Origin", origin)
}

// allowSocketIOPreflight answers what browsers ask before they send more than any page
// may.
func (s *Service) allowSocketIOPreflight(w http.ResponseWriter, r *http.Request) {
	s.allowPreflight(w, r, "GET, POST")
}

// beginSocketIO begins a session.
func (s *Service) beginSocketIO(w http.ResponseWriter, r *http.Request, q engineio.Query, p page) {
	refuse := func(reason string, status int, code engineio.Error, text string) {
		s.refused(r, reason, status, 0, text)
		engineio.Refusal(status, int(code), text).Write(w, false, "")
	}
	reason, away := s.away()
	if !away && s.pids.Load() == nil {
		reason, away = "starting", true
	}
	if away {
		refuse(reason, http.StatusServiceUnavailable, engineio.BadRequest, "this gateway is "+reason+"; connect again")
		return
	}
	if p := httpx.Refused(r); p != nil && !q.WebSocket { // a session that polls would need no socket to stay
		refuse("crowded", p.Status, engineio.Forbidden, p.Detail)
		return
	}
	remote := s.clientIP(r)
	s.wait(s.shares.pay(remote, costOf(r)), func() bool { return r.Context().Err() != nil })
	sid := s.engine.NewSID()
	c := s.newSocketClient(r, q, p)
	c.pending.greeting = s.engine.Greeting(sid, !q.WebSocket)
	format := socketFormats[q.Version]
	if !q.WebSocket {
		response, err := s.engine.Begin(r.Context(), q, sid, &c.conn, remote, httpx.NewID(), format, c)
		if err != nil {
			refuse("stopping", http.StatusServiceUnavailable, engineio.BadRequest,
				"this gateway is stopping; connect again")
			return
		}
		response.WriteGet(w, s.gzipAbove(r), q.Script)
		return
	}
	err := s.conns.Accept(&c.conn, w, r, remote, httpx.NewID(), format, func(status int, reason error) {
		text := "this gateway is stopping; connect again"
		if !errors.Is(reason, conn.ErrClosed) {
			text = reason.Error()
		}
		refuse("handshake", status, engineio.BadRequest, text)
	})
	if err != nil {
		return // refuse has answered, or the client is gone
	}
	if s.sockets != nil {
		s.sockets.Keep(r, c.conn.Remote()) // Ended gives the place back
		c.counted = true
	}
	c.conn.Start(c)
}

// newSocketClient makes the client of a request. Clients of revision 4 say later what
// they want; what the URL asks for counts unless they do.
func (s *Service) newSocketClient(r *http.Request, q engineio.Query, p page) *socketClient {
	c := &socketClient{version: q.Version, form: formOf(r, q), pending: &pending{}}
	c.s = s
	c.words = c.wordsOf(s.socketIO.connecting)
	c.agent, c.page = s.answers.agents.number(r.UserAgent()), s.pages.number(p)
	c.followed = c.first[:0]
	c.asked = &request{channels: []string{proto.Broadcast}, judged: p.judged}
	if c.asked.refused = crowded(r); c.asked.refused != nil { // first: what cannot stay costs no signature
		return c
	}
	values := r.URL.Query()
	if named := values["channel"]; len(named) > 0 {
		c.asked.channels = []string{}
		for _, name := range named {
			if name != "" && !slices.Contains(c.asked.channels, name) {
				c.asked.channels = append(c.asked.channels, strings.Clone(name))
			}
		}
	}
	c.asked.since = strings.Clone(values.Get("since"))
	var err error
	if len(c.asked.channels) > proto.MaxChannels {
		err = errors.New("too many channels in the URL; subscribe events take more")
	} else if err = checkSubprotocols(r); err == nil {
		c.asked.token, err = s.tokenOf(r, values, p)
	}
	if err != nil {
		c.asked.refused = &refusal{code: proto.CloseBadRequest, err: err}
	} else if len(values["channel"]) > 0 || c.asked.token != "" {
		c.came = &request{channels: c.asked.channels, token: c.asked.token}
	}
	return c
}

// formOf guesses from the name of a client's HTTP library how many arguments it expects.
// Browsers and Node.js run the JavaScript client, whose handlers ignore arguments that they
// do not know: browsers and most servers have a User-Agent, and the package ws, by which
// Node.js opens WebSockets, has none and offers compression with this parameter. Of all
// others nothing is known, so they get the data alone.
func formOf(r *http.Request, q engineio.Query) socketio.Form {
	agent := r.UserAgent()
	javaScript := agent == "" && strings.Contains(r.Header.Get("Sec-WebSocket-Extensions"), "client_max_window_bits")
	for _, prefix := range []string{"Mozilla/", "node", "Node.js", "Bun/", "Deno/"} {
		javaScript = javaScript || strings.HasPrefix(agent, prefix)
	}
	switch {
	case !javaScript:
		return socketio.Plain
	case q.Version == engineio.V3:
		return socketio.Detailed
	}
	return socketio.Recovering
}

// handOver counts the socket of a WebSocket to which a session that polls goes over; nil:
// nobody counts sockets.
func (s *Service) handOver(r *http.Request) func() (release func()) {
	if s.sockets == nil {
		return nil
	}
	remote := s.clientIP(r)
	return func() func() {
		s.sockets.Keep(r, remote)
		return func() { s.sockets.Release(remote) }
	}
}

// leastGzip is from how many bytes on an answer to a GET is compressed at the earliest: each
// is for one client. The reference server has the same default (httpCompression).
const leastGzip = 1024

// gzipAbove is from how many bytes on the answer to this client is compressed; 0: it is not.
func (s *Service) gzipAbove(r *http.Request) int {
	if s.cfg.CompressAbove == 0 || !httpx.TakesGzip(r) {
		return 0
	}
	return max(s.cfg.CompressAbove, leastGzip)
}

// maxPayload is what Socket.IO clients may send in one POST, and are told: as much as in
// one frame.
const maxPayload = proto.MaxFrameBytes
