package gateway

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// open waits until so many sockets are counted.
func (g *gate) open(want int, what string) {
	g.t.Helper()
	natstest.Eventually(g.t, patience, what, func() bool {
		n, _ := g.sockets.Open()
		return n == want
	})
}

// Sockets of which none is a client count for their address, too: whoever
// comes beyond them hears so in the words of its protocol. A client's socket
// counts until the client has left, whoever owns its descriptor.
func TestSocketsCountFromAccept(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.MaxPerIP = 2 })
	const idle = 2 + 64
	var sockets []net.Conn
	for range idle {
		nc, err := net.Dial("tcp", g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		sockets = append(sockets, nc)
	}
	g.open(idle, "idle sockets are counted")
	code, last := g.dial("").closed()
	if code != proto.CloseTooManyConnections || last.Code != code.String() ||
		!strings.Contains(last.Detail, "address") {
		t.Errorf("WebSocket: got %d after %s", code, last.raw)
	}
	e := g.ask(http.DefaultClient, "http://"+g.Addr().String(), "")
	body, _ := io.ReadAll(e.resp.Body)
	if e.resp.StatusCode != http.StatusOK || e.resp.Header.Get("Content-Type") != "text/event-stream" ||
		!strings.Contains(string(body), "too-many-connections") || !strings.Contains(string(body), "retry: ") {
		t.Errorf("event stream: got %s %s", e.resp.Status, body)
	}
	resp, err := http.Get("http://" + g.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("page: got %s", resp.Status)
	}
	for _, nc := range sockets {
		_ = nc.Close()
	}
	g.open(0, "sockets that are gone do not count")
	one, _ := g.connect("")
	two, _ := g.connect("")
	g.open(2, "clients are counted, once each")
	_ = one.ws.Close()
	g.open(1, "a client that left is not counted")
	_ = two.ws.Close()
	g.open(0, "nobody is counted")
}

// TLS is exchanged beneath a client's connection; its socket counts all the same.
func TestSocketsCountOverTLS(t *testing.T) {
	b := newBroker(t)
	cert, key, pool := certificate(t)
	g := b.gateway(func(c *Config) { c.CertFile, c.KeyFile = cert, key })
	d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: pool}}
	var clients []*websocket.Conn
	for range 3 {
		ws, _, err := d.Dial("wss://"+g.Addr().String()+"/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ws.Close() }()
		clients = append(clients, ws)
	}
	g.open(3, "clients are counted, once each")
	for _, ws := range clients {
		_ = ws.Close()
	}
	g.open(0, "nobody is counted")
}
