package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/natstest"
)

// turn is a client of the same session whose requests have this t.
func (p *poller) turn(t string) *poller {
	return &poller{t: p.t, sid: p.sid, url: p.url + "&t=" + t}
}

// What a proxy or net/http sends again, because the connection broke over which the answer
// should have come, loses nothing and does nothing twice.
func TestPollingRepeats(t *testing.T) {
	b := newBroker(t)
	g, other := b.socketio(), b.socketio()
	enter := func(t *testing.T) *poller {
		g := *g
		g.t = t
		p := g.poller(4, "")
		p.turn("c").send("40")
		p.turn("c").get(`40{"sid":`)
		return p
	}
	message := func(data string) string { return `42["message",{"data":` + data + `}]` }
	t.Run("a GET whose answer was lost gets it again, until the client asks for the next", func(t *testing.T) {
		p := enter(t)
		g.reached(b.publish("broadcast", `1`))
		for range 3 {
			p.turn("a").get(message("1"))
		}
		g.reached(b.publish("broadcast", `2`))
		p.turn("b").get(message("2"))
		p.turn("b").at(g, other).get(message("2"))
		open := p.turn("a").start(http.MethodGet, "") // not a repeat any more
		g.await(open)
		b.publish("broadcast", `3`)
		if r := <-open; r.body != message("3") {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("a GET that is repeated while the first seems open takes its place", func(t *testing.T) {
		p := enter(t)
		first := p.turn("a").start(http.MethodGet, "")
		g.await(first)
		second := p.turn("a").at(g, other).start(http.MethodGet, "")
		if r := <-first; r.status != 400 {
			t.Errorf("the first got %+v", r)
		}
		b.publish("broadcast", `1`)
		if r := <-second; r.body != message("1") {
			t.Errorf("the second got %+v", r)
		}
		p.turn("b").send("3")
	})
	t.Run("a GET that was cut off may be repeated", func(t *testing.T) {
		p := enter(t)
		for _, at := range []*gate{g, other} {
			cut := p.turn("a"+at.Addr().String()).at(g, at)
			first := cut.start(http.MethodGet, "")
			g.await(first)
			cut.cut()
			<-first
			natstest.Eventually(t, patience, "the gateway knows", func() bool { return g.engine.Waiting() == 0 })
			g.reached(b.publish("broadcast", `1`))
			cut.at(at, other).get(message("1"))
		}
	})
	t.Run("a GET that was cut off and is not repeated ends the session", func(t *testing.T) {
		p := enter(t)
		cut := p.turn("a")
		first := cut.start(http.MethodGet, "")
		g.await(first)
		cut.cut()
		<-first
		natstest.Eventually(t, patience, "the session is gone", func() bool { return !g.engine.Has(p.sid) })
	})
	t.Run("two GETs at once are not repeats", func(t *testing.T) {
		p := enter(t)
		first := p.turn("a").start(http.MethodGet, "")
		g.await(first)
		if r := p.turn("b").do(http.MethodGet, ""); r.status != 400 {
			t.Errorf("the second got %+v", r)
		}
		<-first
		p.unknown()
	})
	t.Run("a POST is done once", func(t *testing.T) {
		p := enter(t)
		for range 2 {
			p.turn("p").send(`421["subscribe","a"]`)
		}
		p.turn("q").send(`422["subscribe","b"]`)
		got := ""
		for turn := "x"; !strings.Contains(got, `432[`); turn += "x" {
			got += p.turn(turn).get("43")
		}
		if n := strings.Count(got, `431[`); n != 1 {
			t.Errorf("it was answered %d times: %s", n, got)
		}
	})
	for name, turn := range map[string]string{"a client whose t is always the same": "same",
		"a t that is longer than any": strings.Repeat("x", 65)} {
		t.Run(name+" is never taken to repeat", func(t *testing.T) {
			g := *g
			g.t = t
			p := g.poller(4, "&t="+turn)
			p.send("40")
			p.get(`40{"sid":`)
			for _, data := range []string{"1", "2"} {
				g.reached(b.publish("broadcast", data))
				p.get(message(data))
			}
		})
	}
}

// What is kept for a repeat is one response, for as long as the session is there.
func TestPollingRepeatsBound(t *testing.T) {
	t.Parallel() // it waits
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.Heartbeat = patient })
	p := g.poller(4, "")
	p.turn("a").send("40")
	p.turn("b").get(`40{"sid":`)
	natstest.Eventually(t, patience, "who is silent is forgotten", func() bool { return !g.engine.Has(p.sid) })
	if r := p.turn("b").do(http.MethodGet, ""); r.status != 400 {
		t.Errorf("a repeat after the end got %+v", r)
	}
}
