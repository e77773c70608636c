package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// The upgrade of a session that another gateway has: it goes on over a WebSocket all the same.
func TestUpgradeElsewhere(t *testing.T) {
	b := newBroker(t)
	owner, other := b.socketio(), b.socketio()
	enter := func(t *testing.T) (here, there *poller) {
		owner := *owner
		owner.t = t
		here = owner.poller(4, "")
		here.send("40")
		here.get(`40{"sid":`)
		return here, here.at(&owner, other)
	}
	upgrade := func(t *testing.T) (here, there *poller, s *sock) {
		here, there = enter(t)
		s = there.probe()
		s.send("2probe")
		s.want("3probe")
		s.send("5")
		s.send(`421["subscribe","a"]`)
		s.matches(`^431\[\{"channel":"a"`)
		return here, there, s
	}
	gone := func(t *testing.T, p *poller) {
		t.Helper()
		natstest.Eventually(t, patience, "the owner has forgotten the session",
			func() bool { return !owner.engine.Has(p.sid) })
		natstest.Eventually(t, patience, "nobody is left at the other gateway",
			func() bool { return other.conns.Len() == 0 })
	}
	t.Run("as at its owner", func(t *testing.T) {
		here, there := enter(t)
		s := there.upgradeDuringGet(b, owner)
		for _, p := range []*poller{here, there} {
			if r := p.do(http.MethodGet, ""); r.status != 400 {
				t.Errorf("a GET after the upgrade got %+v", r)
			}
			if r := p.do(http.MethodPost, "3"); r.status != 400 {
				t.Errorf("a POST after the upgrade got %+v", r)
			}
			p.probe().closed("a second WebSocket")
		}
		for i := range 100 {
			b.publish("a", fmt.Sprint(i))
		}
		for i := range 100 {
			s.want(fmt.Sprintf(`42["message",%d]`, i))
		}
		_ = s.ws.Close()
		gone(t, here)
	})
	t.Run("revision 3", func(t *testing.T) {
		owner := *owner
		owner.t = t
		p := owner.poller(3, "")
		there := p.at(&owner, other)
		there.get("2:40")
		s := there.probe()
		s.send("2probe")
		s.want("3probe")
		s.send("5")
		s.send("2")
		s.want("3")
		b.publish("broadcast", `"ü"`)
		s.want(`42["message",{"data":"ü"}]`)
		s.send("1")
		if code, _ := s.ended(); code != 1001 {
			t.Errorf("a close packet was answered by code %d", code)
		}
		gone(t, p)
	})
	t.Run("compressed as at its owner, by a client that says the same t always", func(t *testing.T) {
		const long = 20_000
		_, there := enter(t)
		path := strings.Replace(there.url[strings.Index(there.url, "/socket.io/"):], "polling", "websocket", 1)
		d := other.deflating(path+"&t=x", nil)
		s := &sock{t, d.Conn}
		s.send("2probe")
		s.want("3probe")
		s.send("5")
		s.send(`421["subscribe","a"]`)
		s.matches(`^431\[\{"channel":"a"`)
		for i := range 3 {
			before := d.read.n.Load()
			b.publish("a", text(long+i))
			s.want(`42["message",` + text(long+i) + `]`)
			if n := d.read.n.Load() - before; n > long/2 {
				t.Errorf("message %d took %d bytes", i, n)
			}
		}
		b.publish("a", `"data:application/octet-stream;base64,AQID"`)
		s.want(`451-["message",{"_placeholder":true,"num":0}]`)
		s.want("\x01\x02\x03")
		_ = s.ws.Close()
	})
	t.Run("what breaks the protocol ends the session", func(t *testing.T) {
		here, _, s := upgrade(t)
		s.send("42{}")
		if _, before := s.ended(); len(before) == 0 || !strings.HasPrefix(before[0], `42["error"`) {
			t.Errorf("got %q", before)
		}
		gone(t, here)
	})
	for name, packet := range map[string]string{"another packet": "4x", "an empty one": "",
		"the upgrade of somebody else": "55"} {
		t.Run(name+" ends the probe, and the session goes on polling", func(t *testing.T) {
			here, there := enter(t)
			s := there.probe()
			s.send(packet)
			s.closed("it")
			here.send(`421["subscribe","a"]`)
			there.get(`431`)
			here.mayProbe()
		})
	}
	t.Run("probes without end", func(t *testing.T) {
		_, there := enter(t)
		s := there.probe()
		for range 3 {
			s.send("2probe")
			s.want("3probe")
		}
		s.send("2probe")
		s.closed("the fourth")
	})
	t.Run("a session that is none is refused before the handshake", func(t *testing.T) {
		p := &poller{t: t, url: "http://" + other.Addr().String() +
			"/socket.io/?EIO=4&transport=websocket&sid=0123456789.x"}
		if r := p.do(http.MethodGet, ""); r.status != 400 || refusalOf(t, r.body).Code != 1 {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("an idle one costs little", func(t *testing.T) {
		const clients, most = 50, 128 << 10
		before := inUse()
		for range clients {
			upgrade(t)
		}
		costs(t, before, clients, most) // both gateways and the clients' own included
	})
	t.Run("who does not read is closed, with bounded memory", func(t *testing.T) {
		_, _, s := upgrade(t)
		big := fmt.Sprintf("%q", strings.Repeat("x", 60<<10))
		natstest.Eventually(t, patience, "the slow client is told to come back", func() bool {
			for range 20 {
				b.publish("a", big)
			}
			for _, line := range owner.log.With("client disconnected") {
				if line["reason"] == proto.CloseSlowConsumer.String() {
					return true
				}
			}
			return false
		})
		_ = s.ws.Close()
	})
}

// Either gateway leaves: the client is told to come back, and does so at another.
func TestUpgradeElsewhereDrain(t *testing.T) {
	b := newBroker(t)
	for _, who := range []string{"the owner", "the other"} {
		t.Run(who, func(t *testing.T) {
			owner, other := b.socketio(), b.socketio()
			p := owner.poller(4, "")
			p.send("40")
			p.get("40{")
			s := p.at(owner, other).probe()
			s.send("2probe")
			s.want("3probe")
			s.send("5")
			s.send(`421["subscribe","a"]`)
			s.matches(`^431`)
			leaves := owner
			if who == "the other" {
				leaves = other
			}
			stopped := make(chan error, 1)
			go func() { stopped <- leaves.stop() }()
			if code, before := s.ended(); code != 1001 || len(before) > 0 {
				t.Errorf("got code %d after %q", code, before)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			natstest.Eventually(t, patience, "the session is gone", func() bool { return !owner.engine.Has(p.sid) })
		})
	}
}

// A probe at another gateway is bounded as one at the owner is; so is one whose gateway is
// gone.
func TestProbeElsewhereNeverEnds(t *testing.T) {
	t.Parallel() // it waits
	b := newBroker(t)
	owner, other := b.socketio(), b.socketio()
	p := owner.poller(4, "")
	p.send("40")
	p.get("40{")
	s := p.at(owner, other).probe()
	p.probe().closed("a second probe")
	p.at(owner, other).probe().closed("a third")
	_ = s.ws.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := s.ws.ReadMessage(); !websocket.IsCloseError(err, 4001) {
		t.Errorf("got %v, want 4001", err)
	}
	b.publish("broadcast", `1`)
	p.get(`42["message",{"data":1}]`)
	p.at(owner, other).mayProbe()
}

// mayProbe waits until another WebSocket may ask for the session.
func (p *poller) mayProbe() {
	p.t.Helper()
	natstest.Eventually(p.t, patience, "another may probe", func() bool {
		s := p.probe()
		defer func() { _ = s.ws.Close() }()
		s.send("2probe")
		_ = s.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, b, _ := s.ws.ReadMessage()
		return string(b) == "3probe"
	})
}
