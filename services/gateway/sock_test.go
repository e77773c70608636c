package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/services/internal/natstest"
)

// socketio starts a gateway that serves Socket.IO clients by now.
func (b *broker) socketio(change ...func(*Config)) *gate {
	b.t.Helper()
	g := b.gateway(change...)
	g.socketsReady()
	return g
}

func (g *gate) socketsReady() {
	g.t.Helper()
	natstest.Eventually(g.t, patience, "the gateway has the secret of pids",
		func() bool { return g.pids.Load() != nil })
}

// asBrowser is how a JavaScript client introduces itself.
var asBrowser = http.Header{"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"}}

// sock is a Socket.IO client over WebSocket: each call reads a packet.
type sock struct {
	t  testing.TB
	ws *websocket.Conn
}

// engine opens a session over WebSocket, and reads the greeting.
func (g *gate) session(eio int, query string, header http.Header) *sock {
	g.t.Helper()
	d := websocket.Dialer{HandshakeTimeout: patience}
	ws, _, err := d.Dial(fmt.Sprintf("ws://%s/socket.io/?EIO=%d&transport=websocket%s", g.Addr(), eio, query), header)
	if err != nil {
		g.t.Fatalf("connect: %v", err)
	}
	g.t.Cleanup(func() { _ = ws.Close() })
	s := &sock{g.t, ws}
	s.matches(`^0\{"sid":".+","upgrades":\[\],"pingInterval":\d+,"pingTimeout":\d+,"maxPayload":16384\}$`)
	return s
}

// io opens a session and enters the namespace. It returns the pid, if there is one.
func (g *gate) io(auth string, header http.Header) (s *sock, pid string) {
	g.t.Helper()
	s = g.session(4, "", header)
	s.send("40" + auth)
	return s, s.connected()
}

var connectedForm = regexp.MustCompile(`^40\{"sid":"[^"]+"(?:,"pid":"([^"]+)")?\}$`)

// connected reads the answer to CONNECT.
func (s *sock) connected() (pid string) {
	s.t.Helper()
	return s.matches(connectedForm.String())[1]
}

func (s *sock) send(packet string) {
	s.t.Helper()
	if err := s.ws.WriteMessage(websocket.TextMessage, []byte(packet)); err != nil {
		s.t.Fatalf("send %s: %v", packet, err)
	}
}

func (s *sock) next() string {
	s.t.Helper()
	_ = s.ws.SetReadDeadline(time.Now().Add(patience))
	_, b, err := s.ws.ReadMessage()
	if err != nil {
		s.t.Fatalf("read a packet: %v", err)
	}
	return string(b)
}

// alive is next, and answers pings meanwhile. It may be called in a goroutine; empty: nothing came.
func (s *sock) alive() string {
	for {
		_ = s.ws.SetReadDeadline(time.Now().Add(patience))
		_, b, err := s.ws.ReadMessage()
		switch {
		case err != nil:
			s.t.Errorf("read a packet: %v", err)
			return ""
		case string(b) != "2":
			return string(b)
		}
		if err := s.ws.WriteMessage(websocket.TextMessage, []byte("3")); err != nil {
			s.t.Errorf("answer a ping: %v", err)
			return ""
		}
	}
}

// patient is the heartbeat of tests whose clients answer it: a busy machine may stop for seconds.
const patient = 5 * time.Second

func (s *sock) want(packet string) {
	s.t.Helper()
	if got := s.next(); got != packet {
		s.t.Fatalf("got  %s\nwant %s", got, packet)
	}
}

func (s *sock) matches(form string) []string {
	s.t.Helper()
	got := s.next()
	m := regexp.MustCompile(form).FindStringSubmatch(got)
	if m == nil {
		s.t.Fatalf("got %s, want something like %s", got, form)
	}
	return m
}

// place reads the event that seeds the offset, and returns that.
func (s *sock) place() string {
	s.t.Helper()
	return s.matches(`^42\["herald:place","(.*)"\]$`)[1]
}

// message reads a message in the form for clients that recover, and returns its data and
// its offset.
func (s *sock) message() (data, offset string) {
	s.t.Helper()
	m := s.matches(
		`^42\["message",(.*),\{"id":"([^"]+)","channel":"[^"]+","sender":"test","time":"[^"]+"\},"([^"]+)"\]$`)
	if m[2] != m[3] {
		s.t.Fatalf("the offset %s is not the message's id %s", m[3], m[2])
	}
	return m[1], m[3]
}

// ended reads up to the end, and returns the code and what came before.
func (s *sock) ended() (code int, before []string) {
	s.t.Helper()
	for {
		_ = s.ws.SetReadDeadline(time.Now().Add(patience))
		_, b, err := s.ws.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed):
			return closed.Code, before
		case err != nil:
			s.t.Fatalf("the connection ended without a goodbye: %v", err)
		}
		before = append(before, string(b))
	}
}

// refusalOf is the members of an Engine.IO refusal.
func refusalOf(t testing.TB, body string) (v struct {
	Code    int
	Message string
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%q is no refusal: %v", body, err)
	}
	return v
}
