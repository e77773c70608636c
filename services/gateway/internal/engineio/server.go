package engineio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Config is what a Server announces to its clients, and holds them to.
type Config struct {
	Conns *conn.Set
	// Node begins every sid, so that a request which reaches another node can be passed
	// on: letters and digits.
	Node string
	// PingInterval and PingTimeout: protocol v4, "Heartbeat". The conn.Format keeps them.
	PingInterval, PingTimeout time.Duration
	// MaxPayload bounds the body of a POST, in bytes.
	MaxPayload int
	// Subprotocol is named in the answer to a WebSocket that offers it; empty: none is.
	Subprotocol string
}

// Server keeps the sessions that poll, and those that did. Sessions over WebSocket alone
// are none of its business.
type Server struct {
	cfg Config

	mu       sync.Mutex
	sessions map[string]*poll // guarded by mu; by sid
}

// NewServer makes a Server without sessions. They end with their connections.
func NewServer(cfg Config) *Server {
	return &Server{cfg: cfg, sessions: map[string]*poll{}}
}

// sidBytes is the random part of a sid: who knows it owns the session.
const sidBytes = 16

// NewSID returns a sid of this node, which nobody can guess.
func (s *Server) NewSID() string {
	b := make([]byte, sidBytes)
	_, _ = rand.Read(b) // it never fails
	return s.cfg.Node + "." + base64.RawURLEncoding.EncodeToString(b)
}

// Greeting is the packet with which a session begins, as a WebSocket message.
func (s *Server) Greeting(sid string, polls bool) []byte {
	upgrades := []string{}
	if polls && s.cfg.Conns.Polls() {
		upgrades = []string{"websocket"}
	}
	b, _ := json.Marshal(struct { // plain values always marshal
		SID          string   `json:"sid"`
		Upgrades     []string `json:"upgrades"`
		PingInterval int64    `json:"pingInterval"`
		PingTimeout  int64    `json:"pingTimeout"`
		MaxPayload   int      `json:"maxPayload"`
	}{sid, upgrades, s.cfg.PingInterval.Milliseconds(), s.cfg.PingTimeout.Milliseconds(), s.cfg.MaxPayload})
	return append([]byte{Open}, b...)
}

// Len is how many sessions a sid finds.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Begin begins a session that polls. c is a zero Conn, the client's, whose first frame
// must be the Greeting: it is the response. ErrClosed of package conn means that the set
// drains.
func (s *Server) Begin(ctx context.Context, q Query, sid string, c *conn.Conn, remote netip.Addr, id string,
	format *conn.Format, client conn.Client) (Response, error) {
	p := &poll{server: s, conn: c, sid: sid, version: q.Version, b64: q.B64}
	p.repeats.first = strings.Clone(q.Turn)
	get := p.open()
	s.mu.Lock()
	s.sessions[sid] = p
	s.mu.Unlock()
	if err := s.cfg.Conns.Attach(c, p, remote, id, format); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.forget()
		return Response{}, err
	}
	c.Start(client)
	return p.await(ctx, get), nil
}

// find returns the session with this sid; nil: there is none here.
func (s *Server) find(sid string) *poll {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[sid]
}

// Has reports whether a sid finds a session.
func (s *Server) Has(sid string) bool { return s.find(sid) != nil }

// Serve answers a request of a session that polls: a GET, which waits until there is
// something to say, or a POST. ctx ends when the client hangs up.
func (s *Server) Serve(ctx context.Context, q Query, method string, body []byte, binary bool) Response {
	p := s.find(q.SID)
	if q.Turn = strings.Clone(q.Turn); p != nil && q.Turn == p.repeats.first {
		q.Turn = ""
	}
	switch {
	case p == nil:
		return UnknownSID.Response()
	case p.version != q.Version:
		return BadRequest.Response()
	case method == http.MethodGet:
		return p.receive(ctx, q)
	case method == http.MethodPost && len(body) > s.cfg.MaxPayload:
		p.breakOff()
		return Response{Status: http.StatusRequestEntityTooLarge}
	case method == http.MethodPost:
		return p.send(ctx, q, body, binary)
	}
	return BadRequest.Response()
}

// frame is a packet as a WebSocket frame.
func frame(packet string) []byte { return ws.Encode(ws.Text, []byte(packet)) }

// Waiting is how many GETs are open.
func (s *Server) Waiting() (n int) {
	s.mu.Lock()
	polls := make([]*poll, 0, len(s.sessions))
	for _, p := range s.sessions {
		polls = append(polls, p)
	}
	s.mu.Unlock()
	for _, p := range polls {
		p.mu.Lock()
		if p.get != nil && !p.gathers {
			n++
		}
		p.mu.Unlock()
	}
	return n
}
