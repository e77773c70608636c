package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go"
)

// at makes requests of this session go to another gateway.
func (p *poller) at(from, to *gate) *poller {
	return &poller{t: p.t, sid: p.sid, url: strings.Replace(p.url, from.Addr().String(), to.Addr().String(), 1)}
}

// Without sticky sessions: any gateway answers a request of any session.
func TestPollingElsewhere(t *testing.T) {
	b := newBroker(t)
	owner, other := b.socketio(), b.socketio()
	enter := func(t *testing.T) (here, there *poller) {
		owner := *owner
		owner.t = t
		here = owner.poller(4, "")
		there = here.at(&owner, other)
		there.send("40")
		there.get(`40{"sid":`)
		return here, there
	}
	t.Run("GET and POST, on different gateways at once", func(t *testing.T) {
		here, there := enter(t)
		answer := there.start(http.MethodGet, "")
		owner.await(answer)
		here.send(`421["subscribe","a"]`)
		if r := <-answer; !strings.HasPrefix(r.body, `431[{"channel":"a"`) || r.status != 200 {
			t.Errorf("got %+v", r)
		}
		b.publish("a", `1`)
		there.get(`42["message",1]`)
	})
	t.Run("a second GET, on another gateway, closes the session", func(t *testing.T) {
		here, there := enter(t)
		first := here.start(http.MethodGet, "")
		owner.await(first)
		if r := there.do(http.MethodGet, ""); r.status != 400 {
			t.Errorf("the second got %+v", r)
		}
		if r := <-first; r.body != "1" {
			t.Errorf("the first got %+v", r)
		}
		there.unknown()
	})
	t.Run("a GET that is cut off at another gateway closes the session", func(t *testing.T) {
		_, there := enter(t)
		first := there.start(http.MethodGet, "")
		owner.await(first)
		there.cut()
		<-first
		natstest.Eventually(t, patience, "the session is gone", func() bool { return !owner.engine.Has(there.sid) })
	})
	t.Run("a body above the limit closes the session", func(t *testing.T) {
		here, there := enter(t)
		if r := there.do(http.MethodPost, "4"+strings.Repeat("x", maxPayload)); r.status != 413 {
			t.Errorf("got %+v", r)
		}
		here.unknown()
	})
	t.Run("a payload of bytes comes whole", func(t *testing.T) {
		owner := *owner
		owner.t = t
		p := owner.poller(3, "")
		there := p.at(&owner, other)
		there.get("2:40")
		b.publish("broadcast", `"ü"`)
		there.get(`26:42["message",{"data":"ü"}]`)
	})
	t.Run("the owner drains, and says goodbye through the other", func(t *testing.T) {
		_, there := enter(t)
		open := there.start(http.MethodGet, "")
		owner.await(open)
		if err := owner.stop(); err != nil {
			t.Error(err)
		}
		if r := <-open; r.body != "1" {
			t.Errorf("got %+v, want a close packet", r)
		}
		r := there.do(http.MethodPost, "3")
		if v := refusalOf(t, r.body); r.status != 400 || v.Code != int(engineio.UnknownSID) {
			t.Errorf("when the owner is gone: %+v, want unknown session", r)
		}
	})
}

// Whoever waits for a gateway that is killed hears soon that it is gone, and not after a heartbeat.
func TestPollingOwnerKilled(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	owner := b.Connect() // of a gateway that takes requests, and is killed before it answers
	requests := make(chan *nats.Msg, 16)
	if _, err := owner.ChanSubscribe(hopSubject("0123456789"), requests); err != nil {
		t.Fatal(err)
	}
	if err := owner.Flush(); err != nil {
		t.Fatal(err)
	}
	p := &poller{t: t, url: "http://" + g.Addr().String() + "/socket.io/?EIO=4&transport=polling&sid=0123456789.x"}
	answers := []<-chan polled{p.start(http.MethodGet, ""), p.start(http.MethodGet, "")}
	for range answers {
		<-requests
	}
	owner.Close()
	for _, answer := range answers {
		select {
		case r := <-answer:
			if v := refusalOf(t, r.body); r.status != 400 || v.Code != int(engineio.UnknownSID) {
				t.Errorf("got %+v, want unknown session", r)
			}
		case <-time.After(40 * time.Second): // a heartbeat would take 45
			t.Fatal("nobody is told that the gateway is gone")
		}
	}
	natstest.Eventually(t, patience, "nobody is watched any more", func() bool {
		g.hops.owners.mu.Lock()
		defer g.hops.owners.mu.Unlock()
		return len(g.hops.owners.known) == 0
	})
}

// What a client says about the owner of its session becomes no other subject of NATS.
func TestPollingSubjects(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	for _, sid := range []string{"*.x", ">.x", "a b.x", "$JS.API.INFO", "", ".", strings.Repeat("a", 41) + ".x", "A.x",
		"..%0d%0a"} {
		if owner, _, _ := strings.Cut(sid, "."); node.MatchString(owner) {
			t.Errorf("%q would be asked for", owner)
		}
	}
	spy, err := b.nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	p := &poller{t: t, url: "http://" + g.Addr().String() + "/socket.io/?EIO=4&transport=polling&sid=%3E.x"}
	p.unknown()
	if n, _, _ := spy.Pending(); n > 0 {
		for range n {
			if m, err := spy.NextMsg(patience); err == nil && strings.HasPrefix(m.Subject, "herald.socketio.") {
				t.Errorf("a request went to %s", m.Subject)
			}
		}
	}
}
