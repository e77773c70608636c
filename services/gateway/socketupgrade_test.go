package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// probe opens a WebSocket for a session that polls.
func (p *poller) probe() *sock {
	p.t.Helper()
	d := websocket.Dialer{HandshakeTimeout: patience}
	ws, _, err := d.Dial(strings.NewReplacer("http:", "ws:", "polling", "websocket").Replace(p.url), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = ws.Close() })
	return &sock{p.t, ws}
}

// upgradeDuringGet makes the session a WebSocket while a GET is open at its owner g: that one ends with a noop packet,
// and what comes then reaches the WebSocket.
func (p *poller) upgradeDuringGet(b *broker, g *gate) *sock {
	p.t.Helper()
	open := p.start(http.MethodGet, "")
	g.await(open)
	s := p.probe()
	s.send("2probe")
	s.want("3probe")
	if r := <-open; r.body != "6" {
		p.t.Errorf("the open GET got %+v, want a noop packet", r)
	}
	g.reached(b.publish("broadcast", `"between"`)) // while no GET is open
	s.send("5")
	s.want(`42["message",{"data":"between"}]`)
	s.send(`421["subscribe","a"]`)
	s.matches(`^431`)
	return s
}

// closed reads until the WebSocket is closed, which must be the next thing.
func (s *sock) closed(what string) {
	s.t.Helper()
	_ = s.ws.SetReadDeadline(time.Now().Add(patience))
	if _, b, err := s.ws.ReadMessage(); err == nil || strings.Contains(err.Error(), "timeout") {
		s.t.Errorf("%s: got %q, %v; want that it is closed", what, b, err)
	}
}

// Protocol v4, "Upgrade".
func TestUpgrade(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	t.Run("the open GET is ended, and the WebSocket goes on", func(t *testing.T) {
		p := g.poller(4, "")
		p.send("40")
		p.get("40{")
		s := p.upgradeDuringGet(b, g)
		if r := p.do(http.MethodGet, ""); r.status != 400 {
			t.Errorf("a GET after the upgrade got %+v", r)
		}
		if r := p.do(http.MethodPost, "3"); r.status != 400 {
			t.Errorf("a POST after the upgrade got %+v", r)
		}
		again := p.probe()
		_ = again.ws.SetReadDeadline(time.Now().Add(patience))
		if _, _, err := again.ws.ReadMessage(); err == nil {
			t.Error("a second WebSocket was answered")
		}
		b.publish("a", `2`)
		s.want(`42["message",2]`)
	})
	t.Run("what comes right behind the upgrade packet is read", func(t *testing.T) {
		p := g.poller(4, "")
		s := p.probe()
		s.send("2probe")
		s.want("3probe")
		s.send("5")
		s.send("40")
		s.send(`421["subscribe","a"]`)
		s.connected()
		s.matches(`^431`)
	})
	t.Run("a GET while the probe is answered gets what there is, or a noop", func(t *testing.T) {
		p := g.poller(4, "")
		s := p.probe()
		s.send("2probe")
		s.want("3probe")
		p.get("6")
	})
	for name, packet := range map[string]string{"another packet": "4x", "an empty one": "",
		"a long one": strings.Repeat("x", 200)} {
		t.Run(name+" ends the probe, and the session goes on polling", func(t *testing.T) {
			p := g.poller(4, "")
			s := p.probe()
			s.send(packet)
			_ = s.ws.SetReadDeadline(time.Now().Add(patience))
			if _, _, err := s.ws.ReadMessage(); err == nil {
				t.Error("it was answered")
			}
			p.send("40")
			p.get("40{")
			s = p.probe() // another may try
			s.send("2probe")
			s.want("3probe")
		})
	}
}
