package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/internal/natstest"
)

// Protocol v4, "HTTP long-polling": each case names its rule.
func TestPolling(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	enter := func(t *testing.T) *poller {
		g := *g
		g.t = t
		p := g.poller(4, "")
		p.send("40")
		p.get(`40{"sid":`)
		return p
	}
	t.Run("messages are sent together, behind the record separator", func(t *testing.T) {
		p := enter(t)
		packets := []string{`42["message",{"data":0}]`, `42["message",{"data":1}]`, `42["message",{"data":2}]`}
		natstest.Eventually(t, patience, "all of them waited for the GET", func() bool {
			for i := range packets {
				g.reached(b.publish("broadcast", fmt.Sprint(i)))
			}
			var responses, got []string
			for len(got) < len(packets) {
				r := p.get("42")
				responses, got = append(responses, r), append(got, strings.Split(r, "\x1e")...)
			}
			if !slices.Equal(got, packets) {
				t.Fatalf("got %q, want %q", responses, packets)
			}
			return len(responses) == 1
		})
	})
	t.Run("a GET waits until there is something to say", func(t *testing.T) {
		p := enter(t)
		answer := p.start(http.MethodGet, "")
		g.await(answer)
		b.publish("broadcast", `"late"`)
		if r := <-answer; r.body != `42["message",{"data":"late"}]` || r.kind != "text/plain; charset=UTF-8" {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("several packets in one POST", func(t *testing.T) {
		p := enter(t)
		p.send("421[\"subscribe\",\"a\"]\x1e422[\"subscribe\",\"b\"]")
		got := p.get(`431[`)
		for !strings.Contains(got, `432[`) {
			got += p.get("")
		}
	})
	t.Run("an invalid packet closes the session", func(t *testing.T) {
		p := enter(t)
		if r := p.do(http.MethodPost, "abc"); r.status != 400 {
			t.Errorf("got %+v", r)
		}
		p.unknown()
	})
	t.Run("a second GET closes the session", func(t *testing.T) {
		p := enter(t)
		first := p.start(http.MethodGet, "")
		g.await(first)
		if r := p.do(http.MethodGet, ""); r.status != 400 {
			t.Errorf("the second got %+v", r)
		}
		if r := <-first; r.body != "1" {
			t.Errorf("the first got %+v, want a close packet", r)
		}
		p.unknown()
	})
	t.Run("a GET that is cut off closes the session", func(t *testing.T) {
		p := enter(t)
		first := p.start(http.MethodGet, "")
		g.await(first)
		p.cut()
		<-first
		natstest.Eventually(t, patience, "the session is gone", func() bool { return !g.engine.Has(p.sid) })
		p.unknown()
	})
	t.Run("a close packet closes the session, and the open GET gets a noop", func(t *testing.T) {
		p := enter(t)
		first := p.start(http.MethodGet, "")
		g.await(first)
		p.send("1")
		if r := <-first; r.body != "6" {
			t.Errorf("the open GET got %+v, want a noop packet", r)
		}
		p.unknown()
	})
	t.Run("a GET that crosses a close packet gets a noop, one, and nothing else comes in", func(t *testing.T) {
		p := enter(t)
		p.send("1")
		if r := p.do(http.MethodPost, "41"); r.status != 400 {
			t.Errorf("a POST after the close packet got %+v", r)
		}
		if r := p.do(http.MethodGet, ""); r.body != "6" {
			t.Errorf("the GET got %+v, want a noop packet", r)
		}
		if r := p.do(http.MethodGet, ""); r.status != 400 {
			t.Errorf("the next got %+v", r)
		}
	})
	t.Run("a POST above maxPayload closes the session", func(t *testing.T) {
		p := enter(t)
		if r := p.do(http.MethodPost, "4"+strings.Repeat("x", maxPayload)); r.status != 413 {
			t.Errorf("got %+v", r)
		}
		p.unknown()
	})
	t.Run("a Socket.IO packet that is none ends the session", func(t *testing.T) {
		p := enter(t)
		p.send("42{}")
		p.get(`42["error",`)
		p.unknown()
	})
	t.Run("messages come before the goodbye, and in a response of their own", func(t *testing.T) {
		p := enter(t)
		g.reached(b.publish("broadcast", `1`))
		p.send("42{}") // ends the session while no GET is open
		before := ""
		for got := p.get(""); got != "1"; got = p.get("") {
			if before += got; strings.HasSuffix(got, "\x1e1") {
				t.Fatalf("got %q", got)
			}
		}
		if !strings.Contains(before, `42["error",`) {
			t.Errorf("got %q before the goodbye", before)
		}
		p.unknown()
	})
	t.Run("other methods", func(t *testing.T) {
		p := enter(t)
		for _, method := range []string{http.MethodPut, http.MethodDelete} {
			if r := p.do(method, "x"); r.status != 400 {
				t.Errorf("%s: got %+v", method, r)
			}
		}
	})
	natstest.Eventually(t, patience, "sessions that ended are forgotten", func() bool { return g.engine.Len() < 5 })
}

// The reference server's errors, and what gets each.
func TestEngineErrors(t *testing.T) {
	b := newBroker(t)
	g, old := b.socketio(), b.socketio(func(c *Config) { c.EngineIO3 = false })
	for _, c := range []struct {
		name, method, query string
		g                   *gate
		code                engineio.Error
	}{
		{"no revision", "GET", "transport=polling", g, engineio.UnsupportedVersion},
		{"a revision that is none", "GET", "EIO=abc&transport=polling", g, engineio.UnsupportedVersion},
		{"revision 3 where it is off", "GET", "EIO=3&transport=polling", old, engineio.UnsupportedVersion},
		{"no transport", "GET", "EIO=4", g, engineio.UnknownTransport},
		{"a transport that is none", "GET", "EIO=4&transport=abc", g, engineio.UnknownTransport},
		{"WebTransport", "GET", "EIO=4&transport=webtransport", g, engineio.UnknownTransport},
		{"a POST without a session", "POST", "EIO=4&transport=polling", g, engineio.BadHandshakeMethod},
		{"a PUT without a session", "PUT", "EIO=4&transport=polling", g, engineio.BadHandshakeMethod},
		{"a session that is none", "GET", "EIO=4&transport=polling&sid=x", g, engineio.UnknownSID},
		{"a session of another gateway that is gone", "POST", "EIO=4&transport=polling&sid=0123456789.x", g,
			engineio.UnknownSID},
		{"a WebSocket for a session that is none", "GET", "EIO=4&transport=websocket&sid=x", g, engineio.UnknownSID},
		{"a WebSocket without a handshake", "GET", "EIO=4&transport=websocket", g, engineio.BadRequest},
		{"a callback that is no number", "GET", "EIO=3&transport=polling&j=alert(1)", g, engineio.BadRequest},
		{"a query that is none", "GET", "EIO=4&transport=polling&x=%", g, engineio.BadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &poller{t: t, url: "http://" + c.g.Addr().String() + "/socket.io/?" + c.query}
			if strings.Contains(c.query, "j=") {
				r, _ := http.NewRequest("GET", p.url, nil)
				r.Header.Set("Referer", "http://"+c.g.Addr().String()+"/")
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if v := refusalOf(t, string(body)); v.Code != int(c.code) {
					t.Errorf("got %s", body)
				}
				return
			}
			r := p.do(c.method, "")
			if v := refusalOf(t, r.body); r.status < 400 || v.Code != int(c.code) || c.code != engineio.BadRequest &&
				v.Message != c.code.Error() {
				t.Errorf("got %+v, want code %d, %q", r, c.code, c.code.Error())
			}
		})
	}
}

// Protocol v3: payloads with lengths, pings from the client, JSONP.
func TestPollingV3(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	p := g.poller(3, "&b64=1")
	p.get("2:40")
	b.publish("broadcast", `"€😀"`)
	p.get(`28:42["message",{"data":"€😀"}]`)
	p.send("1:2")
	p.get("1:3")
	p.send("1:1")
	p.unknown()

	referer := "http://" + g.Addr().String() + "/page"
	do := func(method, query string, body []byte) polled {
		r, err := http.NewRequest(method, fmt.Sprintf("http://%s/socket.io/?EIO=3&transport=polling&j=7%s",
			g.Addr(), query),
			bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Referer", referer)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		got, _ := io.ReadAll(resp.Body)
		return polled{resp.StatusCode, resp.Header.Get("Content-Type"), string(got)}
	}
	script := func(r polled) string {
		t.Helper()
		text, ok := strings.CutPrefix(r.body, "___eio[7](")
		var payload string
		if text, ok2 := strings.CutSuffix(text, ");"); !ok || !ok2 || r.kind != "text/javascript; charset=UTF-8" ||
			json.Unmarshal([]byte(text), &payload) != nil {
			t.Fatalf("%+v is no script", r)
		}
		return payload
	}
	greeting := script(do("GET", "", nil))
	_, sid, _ := strings.Cut(greeting, `"sid":"`)
	sid, _, _ = strings.Cut(sid, `"`)
	if got := script(do("GET", "&sid="+sid, nil)); got != "2:40" {
		t.Errorf("got %q", got)
	}
	b.publish("broadcast", "\"\u2028\"")
	if r := do("GET", "&sid="+sid, nil); strings.Contains(r.body, "\u2028") ||
		script(r) != "26:42[\"message\",{\"data\":\"\u2028\"}]" {
		t.Errorf("got %+v", r)
	}
	packet := `421["subscribe","a"]`
	if r := do("POST", "&sid="+sid,
		[]byte("d="+url.QueryEscape(fmt.Sprintf("%d:%s", len(packet), packet)))); r.body != "ok" ||
		r.kind != "text/html" {
		t.Errorf("a form was answered %+v", r)
	}
	if got := script(do("GET", "&sid="+sid, nil)); !strings.Contains(got, `:431[{"channel":"a"`) {
		t.Errorf("got %q", got)
	}
}

// Heartbeats: the gateway pings in revision 4, and closes who does not answer.
func TestSocketIOHeartbeat(t *testing.T) {
	t.Parallel() // it waits
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.Heartbeat = patient })
	s, _ := g.io("", nil)
	for range 2 {
		s.want("2")
		s.send("3")
	}
	if code, _ := s.ended(); code != 4001 {
		t.Errorf("a client that answers no ping was closed with %d", code)
	}
	p := g.poller(4, "")
	p.send("40")
	p.get("40{")
	p.get("2")
	p.send("3")
	p.get("2")
	natstest.Eventually(t, patience, "a client that polls and answers no ping is forgotten",
		func() bool { return !g.engine.Has(p.sid) })
	old := g.poller(3, "&b64=1")
	old.get("2:40")
	for range 2 {
		old.send("1:2")
		old.get("1:3")
	}
	natstest.Eventually(t, patience, "a client of revision 3 that pings no more is forgotten",
		func() bool { return !g.engine.Has(old.sid) })
}
