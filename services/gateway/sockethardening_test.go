package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// A Socket.IO client is one object, as a native one is: see TestSessionSize. 640 bytes are
// one of the sizes that Go's allocator has.
func TestSocketClientSize(t *testing.T) {
	if got := unsafe.Sizeof(socketClient{}); got > 640 {
		t.Errorf("it has %d bytes, want at most 640", got)
	}
}

// Sessions that poll and do nothing: each costs little, holds no goroutine, and is gone
// soon.
func TestHalfOpenSessions(t *testing.T) {
	const most, spare = 4 << 10, 2 << 20 // bytes of each session, and of what is not theirs
	const sessions = 10_000 / fewer
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.MaxPerIP = 0 })
	neighbour, _ := g.io("", nil)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	begin := func() {
		resp, err := client.Get("http://" + g.Addr().String() + "/socket.io/?EIO=4&transport=polling")
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body) // the connection is used again
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %s", resp.Status)
		}
	}
	begin()
	goroutines, before := runtime.NumGoroutine(), inUse()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range sessions / 8 {
				begin()
			}
		})
	}
	wg.Wait()
	open := g.engine.Len() // on a busy machine the first are gone
	if open < sessions/20 {
		t.Fatalf("of %d sessions there are %d", sessions, open)
	}
	used := inUse() - before
	t.Logf("%d bytes of heap and stack for each of %d half-open sessions", used/open, open)
	if used > open*most+spare {
		t.Errorf("%d half-open sessions cost %d bytes, want at most %d each", open, used, most)
	}
	if n := runtime.NumGoroutine() - goroutines; n > 100 {
		t.Errorf("they hold %d goroutines", n)
	}
	b.publish("broadcast", `1`)
	got := neighbour.next()
	for got == "2" { // pings, if it took long
		neighbour.send("3")
		got = neighbour.next()
	}
	if got != `42["message",{"data":1}]` {
		t.Errorf("the neighbour got %s", got)
	}
	natstest.Eventually(t, connectWait+patience, "all of them are gone", func() bool { return g.engine.Len() == 0 })
}

// Over the limit of its address a client stays only for as long as it takes to tell it.
func TestHalfOpenOverTheLimit(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.MaxPerIP = 1 })
	g.io("", nil)
	p := g.poller(4, "")
	q := g.poller(4, "")
	q.send("40")
	if got := q.get("40{"); !strings.Contains(got, "42[\"error\",{\"data\":\"Too many connections from this IP!\"") {
		t.Errorf("got %q", got)
	}
	begin := time.Now()
	natstest.Eventually(t, patience, "who says nothing is gone", func() bool { return !g.engine.Has(p.sid) })
	if took := time.Since(begin); took >= connectWait {
		t.Errorf("gone after %s, as who is not over the limit", took)
	}
}

// A client that polls no more is closed once its queue is full or has waited too long, and
// others do not notice.
func TestPollingSlow(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.MaxQueueBytes = 2 * proto.MaxMessageBytes })
	p := g.poller(4, "")
	p.send("40")
	p.get("40{")
	big := fmt.Sprintf("%q", strings.Repeat("x", 60<<10))
	for range 10 {
		b.publish("broadcast", big)
	}
	natstest.Eventually(t, patience, "the slow client is told to come back", func() bool {
		for _, line := range g.log.With("client disconnected") {
			if line["reason"] == proto.CloseSlowConsumer.String() {
				return true
			}
		}
		return false
	})
	p.unknown()
}

// A response holds no more than it may, however much waits; the rest is in the next ones.
func TestPollingLargeBacklog(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	p := g.poller(4, "")
	p.send("40")
	p.get("40{")
	big := fmt.Sprintf("%q", strings.Repeat("x", 30<<10))
	var last uint64
	for range 20 {
		last = b.publish("broadcast", big)
	}
	g.reached(last)
	got, responses := 0, 0
	for ; got < 20; responses++ {
		r := p.get("42")
		if len(r) > 320<<10 {
			t.Errorf("a response has %d bytes", len(r))
		}
		got += strings.Count(r, `42["message"`)
	}
	if got != 20 || responses < 2 {
		t.Errorf("got %d messages in %d responses", got, responses)
	}
}

// Probes that never end: one at a time, and for a while only; the session goes on.
func TestProbeNeverEnds(t *testing.T) {
	t.Parallel() // it waits
	b := newBroker(t)
	g := b.socketio()
	p := g.poller(4, "")
	p.send("40")
	p.get("40{")
	dial := func() *websocket.Conn {
		d := websocket.Dialer{HandshakeTimeout: patience}
		ws, _, err := d.Dial(strings.NewReplacer("http:", "ws:", "polling", "websocket").Replace(p.url), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ws.Close() })
		_ = ws.SetReadDeadline(time.Now().Add(patience))
		return ws
	}
	begin := time.Now()
	first := dial()
	second := dial()
	if _, _, err := second.ReadMessage(); err == nil {
		t.Error("a second probe was answered while the first is under way")
	}
	b.publish("broadcast", `1`)
	p.get(`42["message",{"data":1}]`)
	if _, _, err := first.ReadMessage(); err == nil || time.Since(begin) < 5*time.Second {
		t.Errorf("the first ended after %s with %v", time.Since(begin), err)
	}
	b.publish("broadcast", `2`)
	p.get(`42["message",{"data":2}]`)
}

func TestSocketIOTooMuch(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	for name, c := range map[string]struct {
		send func(*sock)
		code int
	}{
		"a packet above the limit": {func(s *sock) { s.send("4" + strings.Repeat("x", proto.MaxFrameBytes)) }, 1009},
		"a packet nested too deep": {func(s *sock) { s.send("42" + strings.Repeat("[", 16000)) }, 1007},
		"too many packets": {func(s *sock) {
			for range 20 * maxFrames { // on a busy machine they take more than the second that is counted
				if s.ws.WriteMessage(websocket.TextMessage, []byte("3")) != nil {
					break // it is closed
				}
			}
		}, 4004},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := g.io("", nil)
			c.send(s)
			if code, _ := s.ended(); code != c.code {
				t.Errorf("got code %d, want %d", code, c.code)
			}
		})
	}
}

// A POST holds no more than it may, in whichever form it comes.
func TestPollingTooMuch(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	for name, c := range map[string]struct {
		eio    int
		more   string
		body   string
		status int
	}{
		"a payload above the limit": {4, "", "4" + strings.Repeat("x", maxPayload), 413},
		"the same in revision 3": {3, "&b64=1",
			fmt.Sprintf("%d:4%s", maxPayload+1, strings.Repeat("x", maxPayload)), 413},
		"a form above the limit":               {3, "&j=0", "d=" + strings.Repeat("%78", maxPayload+1), 413},
		"a form above any":                     {3, "&j=0", "d=" + strings.Repeat("x", 4*maxPayload), 413},
		"more packets than may be":             {4, "", strings.Repeat("3\x1e", 256) + "3", 400},
		"more packets than may be, revision 3": {3, "&b64=1", strings.Repeat("1:2", 257), 400},
		"a length beyond all":                  {3, "&b64=1", "999999999:4x", 400},
	} {
		t.Run(name, func(t *testing.T) {
			p := &poller{t: t, url: fmt.Sprintf("http://%s/socket.io/?EIO=%d&transport=polling%s", g.Addr(),
				c.eio, c.more)}
			do := func(method, body string) polled {
				r, err := http.NewRequest(method, p.url, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Referer", "http://"+g.Addr().String()+"/") // a script says where it comes from
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = resp.Body.Close() }()
				b, _ := io.ReadAll(resp.Body)
				return polled{resp.StatusCode, resp.Header.Get("Content-Type"), string(b)}
			}
			_, sid, _ := strings.Cut(strings.ReplaceAll(do(http.MethodGet, "").body, `\"`, `"`), `"sid":"`)
			sid, _, _ = strings.Cut(sid, `"`)
			if !g.engine.Has(sid) {
				t.Fatalf("there is no session %q", sid)
			}
			p.url += "&sid=" + sid
			if r := do(http.MethodPost, c.body); r.status != c.status {
				t.Errorf("got %+v, want status %d", r, c.status)
			}
			if g.engine.Has(sid) {
				t.Error("the session goes on")
			}
		})
	}
}

// Who asks for sessions that nobody opened pays as for handshakes: its address waits.
func TestInventedSessions(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.MaxPerIP = 10 })
	p := &poller{t: t, url: "http://" + g.Addr().String() + "/socket.io/?EIO=4&transport=polling&sid=0123456789.x"}
	begin := time.Now()
	g.shares.pay(netip.MustParseAddr("127.0.0.1"), 600*time.Millisecond) // the address has had more than its share
	p.unknown()
	if took := time.Since(begin); took < 500*time.Millisecond {
		t.Errorf("it was answered after %s, at once for who has had its share", took)
	}
}
