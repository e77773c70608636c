package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/gateway/internal/socketio"
	"github.com/herald-push/herald/services/internal/natstest"
)

// Protocol v5, "Connection to a namespace", "Acknowledgement", "Disconnection", and what
// Herald says beyond it.
func TestSocketIO(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(withTokens)
	g.reached(b.publish("broadcast", `"before"`))

	t.Run("a client of which nothing is known gets the data alone", func(t *testing.T) {
		s, pid := g.io("", nil)
		if pid != "" {
			t.Errorf("it got the pid %s", pid)
		}
		b.publish("broadcast", `"hi"`)
		s.want(`42["message",{"data":"hi"}]`)
	})
	t.Run("a JavaScript client gets details, and its place", func(t *testing.T) {
		s, pid := g.io("", asBrowser)
		if place := s.place(); pid == "" || place == "" {
			t.Errorf("pid %q, place %q", pid, place)
		}
		b.publish("broadcast", `"hi"`)
		if data, _ := s.message(); data != `{"data":"hi"}` {
			t.Errorf("got %s", data)
		}
	})
	t.Run("a client may say what it takes", func(t *testing.T) {
		s, pid := g.io(`{"details":true}`, nil)
		if s.place(); pid == "" {
			t.Error("there is no pid")
		}
		s, pid = g.io(`{"details":false}`, asBrowser)
		b.publish("broadcast", `1`)
		if s.want(`42["message",{"data":1}]`); pid != "" {
			t.Error("there is a pid")
		}
	})
	t.Run("revision 3: connecting is entering", func(t *testing.T) {
		s := g.session(3, "&channel=public.a", nil)
		s.want("40")
		b.publish("public.a", `{"n":1}`)
		s.want(`42["message",{"n":1}]`)
		s.send("2probe")
		s.want("3probe")
		s.send("40/admin")
		s.want(`44/admin,"Invalid namespace"`)
	})
	t.Run("other namespaces are invalid", func(t *testing.T) {
		s := g.session(4, "", nil)
		s.send(`40/admin,{"token":"x"}`)
		s.want(`44/admin,{"message":"Invalid namespace"}`)
		s.send("40")
		s.connected()
	})
	t.Run("channels by auth", func(t *testing.T) {
		s, _ := g.io(`{"channels":["public.x","public.y"]}`, nil)
		b.publish("public.y", `[1]`)
		s.want(`42["message",[1]]`)
	})
	t.Run("a token by auth", func(t *testing.T) {
		s, _ := g.io(fmt.Sprintf(`{"token":%q,"channels":["orders.>"]}`, token(t, "u", time.Hour, "orders.>")), nil)
		b.publish("orders.eu", `1`)
		s.want(`42["message",1]`)
	})
	t.Run("what is missed by since", func(t *testing.T) {
		s := g.session(4, "", nil)
		s.send(`40{"since":"last"}`)
		s.matches(`^42\["message",\{"data":1\}\]$`) // clients keep it until they are connected
		s.connected()
	})
	for name, c := range map[string]struct{ auth, want string }{
		"no permission": {`{"channels":["orders.eu"]}`,
			`^44\{"message":".*needs a token.*","data":\{"error":"forbidden","channel":"orders.eu"\}\}$`},
		"a bad token":        {`{"token":"x"}`, `^44\{"message":".*","data":\{"error":"token-invalid"\}\}$`},
		"a bad channel":      {`{"channels":["a b"]}`, `^44\{"message":.*bad-request`},
		"a bad since":        {`{"since":"x y"}`, `^44\{"message":.*bad-request`},
		"an unknown member":  {`{"chanels":["a"]}`, `^44\{"message":.*chanels.*bad-request`},
		"both names":         {`{"channels":"a","channel":"b"}`, `^44\{"message":.*want one of them.*bad-request`},
		"a wrong kind":       {`{"channels":7}`, `^44\{"message":.*bad-request`},
		"a wrong kind again": {`{"details":"yes"}`, `^44\{"message":.*bad-request`},
	} {
		t.Run(name+" is refused, and the client stays away", func(t *testing.T) {
			s := g.session(4, "", asBrowser)
			s.send("40" + c.auth)
			s.matches(c.want)
			s.want("41")
			s.ended()
		})
	}
	t.Run("revision 3: no permission", func(t *testing.T) {
		s := g.session(3, "&channel=orders.eu", nil)
		s.matches(`^44".*needs a token`)
		s.want("41")
		s.ended()
	})
	for name, packets := range map[string][]string{
		"no Engine.IO packet":                {"abc"},
		"no Socket.IO packet":                {"40", "4abc"},
		"an event without an array":          {"40", "42{}"},
		"an id that is none":                 {"40", `42abc["subscribe","a"]`},
		"an event before CONNECT":            {`42["subscribe","a"]`},
		"an event in a namespace not joined": {"40", `42/admin,["subscribe","a"]`},
		"CONNECT again":                      {"40", "40"},
		"a heartbeat in the wrong direction": {"40", "2"},
	} {
		t.Run(name+" closes the connection", func(t *testing.T) {
			s := g.session(4, "", nil)
			for _, p := range packets {
				s.send(p)
			}
			if code, _ := s.ended(); code != 1007 {
				t.Errorf("got code %d, want 1007", code)
			}
		})
	}
	t.Run("an Engine.IO close packet", func(t *testing.T) {
		s, _ := g.io("", nil)
		s.send("1")
		if code, before := s.ended(); code != 1000 || len(before) > 0 {
			t.Errorf("got code %d after %q", code, before)
		}
	})
	t.Run("a client may leave the namespace and come back", func(t *testing.T) {
		s, _ := g.io("", nil)
		s.send("41")
		s.send("40")
		s.connected()
		b.publish("broadcast", `2`)
		s.want(`42["message",{"data":2}]`)
	})
	t.Run("binary is refused, and the connection goes on", func(t *testing.T) {
		s, _ := g.io("", nil)
		s.send(`451-7["subscribe",{"_placeholder":true,"num":0}]`)
		s.matches(`^437\[\{"error":"unsupported","detail":"binary`)
		if err := s.ws.WriteMessage(websocket.BinaryMessage, []byte{1, 2}); err != nil {
			t.Fatal(err)
		}
		s.send(`421["subscribe","public.a"]`)
		s.matches(`^431\[\{"channel":"public.a"`)
		if err := s.ws.WriteMessage(websocket.BinaryMessage, []byte{1, 2}); err != nil {
			t.Fatal(err)
		}
		if code, _ := s.ended(); code != 1007 {
			t.Errorf("after binary that nothing announced: code %d", code)
		}
	})
}

func TestSocketIOSubscribe(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(withTokens)
	s, _ := g.io(`{"channels":[]}`, nil)
	for _, c := range []struct{ emit, want string }{
		{`421["subscribe","public.a"]`, `^431\[\{"channel":"public.a","resumed":false,"id":"[^"]+"\}\]$`},
		{`422["subscribe",["public.a","public.b"]]`,
			`^432\[\[\{"channel":"public.a",.*\},\{"channel":"public.b",.*\}\]\]$`},
		{`423["subscribe",{"channels":["public.c"],"since":"all"}]`,
			`^433\[\[\{"channel":"public.c","resumed":true,"id":"[^"]+"\}\]\]$`},
		{`424["subscribe",{"channel":"public.c"}]`, `^434\[\{"channel":"public.c"`},
		{`424["subscribe",{"channels":"public.c","since":null}]`, `^434\[\{"channel":"public.c"`},
		{`424["subscribe",{"channel":["public.c","public.c"]}]`, `^434\[\[\{"channel":"public.c",[^}]*\}\]\]$`},
		{`424["subscribe",{"channel":"public.c","channels":["public.c"]}]`,
			`^434\[\{"error":"bad-event",.*want one of them`},
		{`425["subscribe",["public.a","orders"]]`,
			`^435\[\[\{"channel":"public.a",.*\},\{"error":"forbidden","detail":".*","channel":"orders"\}\]\]$`},
		{`426["unsubscribe",["public.a","public.c"]]`,
			`^436\[\[\{"channel":"public.a"\},\{"channel":"public.c"\}\]\]$`},
		{`427["subscribe","a b"]`, `^437\[\{"error":"bad-channel"`},
		{`428["subscribe",{"channel":"public.a","since":"x y"}]`, `^438\[\{"error":"bad-since"`},
		{`429["subscribe"]`, `^439\[\{"error":"bad-event"`},
		{`429["subscribe",7]`, `^439\[\{"error":"bad-event"`},
		{`429["subscribe",[]]`, `^439\[\{"error":"bad-event"`},
		{`429["subscribe",{"chanel":"a"}]`, `^439\[\{"error":"bad-event"`},
		{`429["shout","a"]`, `^439\[\{"error":"bad-event","detail":".*subscribe, unsubscribe and auth`},
		{`429["subscribe",""]`, `^439\[\{"error":"bad-event"`},
		{`429["auth",["x"]]`, `^439\[\{"error":"bad-event"`},
		{`429["auth","x"]`, `^439\[\{"error":"bad-token"`},
		{`42["subscribe","orders"]`,
			`^42\["error",\{"data":".*needs a token.*","code":"forbidden","channel":"orders"\}\]$`},
		{`42["shout","a"]`, `^42\["error",\{"data":".*","code":"bad-event"\}\]$`},
		{`429["auth",{"token":"` + token(t, "u", time.Hour, "orders") + `"}]`,
			`^439\[\{"subject":"u","expires":"[^"]+"\}\]$`},
		{`429["subscribe","orders"]`, `^439\[\{"channel":"orders"`},
	} {
		s.send(c.emit)
		s.matches(c.want)
	}
	b.publish("public.a", `1`) // not followed any more
	b.publish("public.b", `2`)
	s.want(`42["message",2]`)
	s.send(`429["auth","` + token(t, "u", time.Hour, "other") + `"]`)
	s.matches(`^439`)
	s.matches(`^42\["herald:unsubscribed",\{.*"channel":"orders","reason":"forbidden"\}\]$`)
}

// Over the limit the client hears the predecessor's words.
func TestSocketIOLimit(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.MaxPerIP = 1 })
	first, _ := g.io("", nil)
	s, _ := g.io("", asBrowser)
	s.want(`42["error",{"data":"Too many connections from this IP!","code":"too-many-connections"}]`)
	s.want("41")
	if code, _ := s.ended(); code != 4003 {
		t.Errorf("got code %d, want 4003", code)
	}
	old := g.session(3, "", nil)
	old.want("40")
	old.matches(`^42\["error",\{"data":"Too many connections from this IP!"`)
	old.want("41")
	_ = first.ws.Close()
	natstest.Eventually(t, patience, "the log tells who left",
		func() bool { return len(g.log.With("client disconnected")) == 1 })
	g.io("", nil)
	if got := len(g.log.With("client connected")); got != 2 {
		t.Errorf("%d lines tell of clients that came, want 2", got)
	}
}

func TestSocketIODrain(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	s, _ := g.io("", nil)
	p := g.poller(4, "")
	p.send("40")
	p.get("40{")
	answer := p.start(http.MethodGet, "")
	g.await(answer)
	go func() { _ = g.stop() }()
	if code, before := s.ended(); code != 1001 || len(before) > 0 {
		t.Errorf("over WebSocket: code %d after %q, want 1001 alone, so that the client comes back by itself",
			code, before)
	}
	if r := <-answer; r.body != "1" {
		t.Errorf("a client that polls was answered %q, want a close packet", r.body)
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
}

// Who does not enter the namespace does not stay.
func TestSocketIOHalfOpen(t *testing.T) {
	t.Parallel() // it waits
	b := newBroker(t)
	g := b.socketio()
	s := g.session(4, "", nil)
	begin := time.Now()
	if code, _ := s.ended(); code != 4001 || time.Since(begin) < connectWait/2 {
		t.Errorf("got code %d after %s", code, time.Since(begin))
	}
}

func TestSocketIOForm(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	for agent, details := range map[string]bool{
		"Mozilla/5.0 (X11; Linux x86_64)": true, "node-XMLHttpRequest": true, "node": true, "Bun/1.1": true,
		"python-requests/2.28": false, "Python/3.11 aiohttp/3.8": false, "Dart/3.1 (dart:io)": false,
		"okhttp/4.9": false,
	} {
		s, pid := g.io("", http.Header{"User-Agent": {agent}})
		if got := pid != ""; got != details {
			t.Errorf("%s: details %v, want %v", agent, got, details)
		}
		_ = s.ws.Close()
	}
	// Node.js opens WebSockets by the package ws.
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("User-Agent", "")
	r.Header.Set("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
	if got := formOf(r, engineio.Query{Version: engineio.V4}); got != socketio.Recovering {
		t.Errorf("Node.js over WebSocket: form %d", got)
	}
	r.Header.Del("Sec-WebSocket-Extensions") // Python's websocket-client
	if got := formOf(r, engineio.Query{Version: engineio.V4}); got != socketio.Plain {
		t.Errorf("a client without anything: form %d", got)
	}
}

func TestSocketIOOriginAndMethods(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.AllowedOrigins = []string{"https://app.example.com"} })
	try := func(method, query string, header http.Header) *http.Response {
		r, err := http.NewRequest(method, "http://"+g.Addr().String()+"/socket.io/?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	for _, c := range []struct {
		name, method, query, origin, referer string
		status                               int
	}{
		{"a page on the list", "GET", "EIO=4&transport=polling", "https://app.example.com", "", 200},
		{"a page of elsewhere", "GET", "EIO=4&transport=polling", "https://evil.example", "", 403},
		{"its preflight", "OPTIONS", "EIO=4&transport=polling", "https://evil.example", "", 403},
		{"a preflight of one on the list", "OPTIONS", "EIO=4&transport=polling", "https://app.example.com", "", 204},
		{"a script of a page on the list", "GET", "EIO=3&transport=polling&j=0", "", "https://app.example.com/x", 200},
		{"a script of a page of elsewhere", "GET", "EIO=3&transport=polling&j=0", "", "https://evil.example/", 403},
		{"a script of a page that does not say", "GET", "EIO=3&transport=polling&j=0", "", "", 403},
	} {
		header := http.Header{}
		if c.origin != "" {
			header.Set("Origin", c.origin)
		}
		if c.referer != "" {
			header.Set("Referer", c.referer)
		}
		resp := try(c.method, c.query, header)
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.name, resp.StatusCode, c.status)
		}
		if allow := resp.Header.Get("Access-Control-Allow-Origin"); c.origin != "" &&
			(allow == c.origin) != (c.status < 300) {
			t.Errorf("%s: Access-Control-Allow-Origin %q", c.name, allow)
		}
		if methods := resp.Header.Get("Access-Control-Allow-Methods"); c.method == "OPTIONS" && c.status == 204 &&
			!strings.Contains(methods, "POST") {
			t.Errorf("%s: methods %q", c.name, methods)
		}
	}
}
