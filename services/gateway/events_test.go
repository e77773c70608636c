package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// source is an EventSource made by hand: it keeps the last id and the retry
// time as the standard says (WHATWG HTML, section 9.2.6).
type source struct {
	t      testing.TB
	resp   *http.Response
	lines  *bufio.Reader
	hangUp context.CancelFunc

	lastID string
	retry  time.Duration
	told   []frame // subscribed events, which read passes over
}

// ask calls /sse; header is name, value, ….
func (g *gate) ask(client *http.Client, base, query string, header ...string) *source {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	g.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/sse?"+query, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		g.t.Fatalf("GET /sse?%s: %v", query, err)
	}
	g.t.Cleanup(func() { _ = resp.Body.Close() })
	return &source{t: g.t, resp: resp, lines: bufio.NewReader(resp.Body), hangUp: cancel}
}

// events opens a stream that must be admitted.
func (g *gate) events(query string, header ...string) *source {
	g.t.Helper()
	e := g.ask(http.DefaultClient, "http://"+g.Addr().String(), query, header...)
	if kind := e.resp.Header.Get("Content-Type"); e.resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		b, _ := io.ReadAll(e.resp.Body)
		g.t.Fatalf("got %s, %s, %s; want an event stream", e.resp.Status, kind, b)
	}
	return e
}

// read returns the next event's name and data.
func (e *source) read() (name string, f frame, err error) {
	var data []string
	for {
		line, err := e.lines.ReadString('\n')
		if err != nil {
			return "", frame{}, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			e.lastID = value
		case "event":
			name = value
		case "data":
			data = append(data, value)
		case "retry":
			ms, err := strconv.Atoi(value)
			if err != nil {
				return "", frame{}, err
			}
			e.retry = time.Duration(ms) * time.Millisecond
		case "":
			if line != "\n" || len(data) == 0 {
				name = "" // a comment, or an event without data: nothing is dispatched
				continue
			}
			f.raw = strings.Join(data, "\n")
			if name == "close" {
				return name, f, nil // its code is a number
			}
			err := json.Unmarshal([]byte(f.raw), &f)
			if name == proto.FrameSubscribed && err == nil {
				e.told = append(e.told, f)
				name, data, f = "", nil, frame{}
				continue
			}
			return name, f, err
		default:
			return "", frame{}, fmt.Errorf("field %q", line)
		}
	}
}

// want reads one event of this name; "" is a message.
func (e *source) want(name string) frame {
	e.t.Helper()
	got, f, err := e.read()
	if err != nil || got != name {
		e.t.Fatalf("got event %q %s, %v; want %q", got, f.raw, err, name)
	}
	return f
}

func (e *source) ids(want ...string) {
	e.t.Helper()
	for i, id := range want {
		if f := e.want(""); f.ID != id || e.lastID != id {
			e.t.Fatalf("message %d: got %s with the event id %s, want %s", i, f.raw, e.lastID, id)
		}
	}
}

// closed reads up to the goodbye and the end of the body.
func (e *source) closed() (code proto.CloseCode) {
	e.t.Helper()
	for {
		name, f, err := e.read()
		if err != nil {
			e.t.Fatalf("the stream ended without a goodbye: %v", err)
		}
		if name != "close" {
			continue
		}
		var goodbye struct {
			Code   proto.CloseCode
			Reason string
		}
		if err := json.Unmarshal([]byte(f.raw), &goodbye); err != nil || goodbye.Reason != goodbye.Code.String() {
			e.t.Fatalf("goodbye: got %s, %v", f.raw, err)
		}
		if _, f, err := e.read(); !errors.Is(err, io.EOF) {
			e.t.Fatalf("after the goodbye: got %s, %v; want the end", f.raw, err)
		}
		return goodbye.Code
	}
}

func TestEvents(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	e := g.events("channel=a&channel=b.>")
	if f := e.want(proto.FrameWelcome); f.ID != b.place(0) || e.lastID != f.ID ||
		strings.Join(f.Channels, " ") != "a b.>" || e.retry < 500*time.Millisecond {
		t.Errorf("welcome: got %s, event id %s, retry %s", f.raw, e.lastID, e.retry)
	}
	ws, _ := g.connect("channel=a&channel=b.>")
	b.publish("other", "0")
	b.publish("a", "\"line\\nbreak\"")
	b.publish("b.c", `{"n":1}`)
	for range 2 {
		name, got, err := e.read()
		if want := ws.want(""); err != nil || name != "" || got.raw != want.raw {
			t.Errorf("got event %q %s, %v; over WebSocket it is %s", name, got.raw, err, want.raw)
		}
	}
	b.pass("a", "3")
	if f := e.want(""); string(f.Data) != "3" || f.ID != "" || e.lastID != b.id(3) {
		t.Errorf("ephemeral: got %s, event id %s; want the id before it to stay", f.raw, e.lastID)
	}
	if got := e.resp.Header.Get("X-Accel-Buffering") +
		e.resp.Header.Get("Cache-Control"); got != "nono-store, no-transform" {
		t.Errorf("headers against buffering and caching: got %q", got)
	}
	e.hangUp()
	natstest.Eventually(t, patience, "the client is counted out", func() bool { return g.conns.Len() == 1 })
}

// One id resumes on whichever protocol and gateway: WebSocket, then events,
// then WebSocket.
func TestOneCursor(t *testing.T) {
	b := newBroker(t)
	g, other := b.gateway(), b.gateway()
	ws, _ := g.connect("channel=a")
	b.publish("a", "1")
	last := ws.want("").ID
	_ = ws.ws.Close()

	b.publishMany(3000, "a", "b") // more than comes in one piece
	e := other.events("channel=a&channel=b", "Last-Event-ID", last)
	if f := e.want(proto.FrameWelcome); !f.Resumed || f.ID != last {
		t.Errorf("welcome: got %s, want it resumed after %s", f.raw, last)
	}
	e.ids(b.upTo(2, 2001, 1)...)
	last = e.lastID
	e.hangUp()

	ws, welcome := g.connect("channel=a&channel=b&since=" + last)
	if !welcome.Resumed {
		t.Errorf("welcome: got %s, want it resumed", welcome.raw)
	}
	ws.ids(b.upTo(2002, 3001, 1)...)
}

// Last-Event-ID is newer than the since that an EventSource keeps in its URL.
func TestLastEventIDFirst(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	b.publishMany(5, "a")
	e := g.events("channel=a&since="+b.id(1), "Last-Event-ID", b.id(3))
	e.want(proto.FrameWelcome)
	e.ids(b.id(4), b.id(5))
	e = g.events("channel=a&since=" + b.id(3))
	e.want(proto.FrameWelcome)
	e.ids(b.id(4), b.id(5))
}

// The newest of each channel are older than the present, and the browser's
// place is never set back behind what it has, nor before what it lacks.
func TestEventsSinceLast(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	g.reached(b.publishMany(10, "a", "b", "x"))
	e := g.events("channel=a&channel=b&since=last")
	if f := e.want(proto.FrameWelcome); e.lastID != "" || f.ID != b.place(10) {
		t.Errorf("welcome: got %s, event id %q; want none before the older messages", f.raw, e.lastID)
	}
	e.ids(b.id(8), b.id(10))

	e = g.events("channel=none&since=last")
	e.want(proto.FrameWelcome)
	b.publish("none", "1")
	e.ids(b.id(11))
	e = g.events("channel=none2&since=last")
	e.want(proto.FrameWelcome)
	for line := ""; line != "id: "+b.place(11)+"\n"; { // no message, but a place to come back to
		var err error
		if line, err = e.lines.ReadString('\n'); err != nil {
			t.Fatalf("the place: %v", err)
		}
	}
}

func TestEventsGap(t *testing.T) {
	b := newBroker(t)
	b.publishMany(10, "a")
	b.purge(5)
	g := b.gateway()
	e := g.events("channel=a", "Last-Event-ID", b.id(2))
	if f := e.want(proto.FrameWelcome); f.Resumed {
		t.Errorf("welcome: got %s, want it not resumed", f.raw)
	}
	if f := e.want(proto.FrameGap); f.Reason != proto.GapExpired || f.ID != b.place(5) || e.lastID != b.place(5) {
		t.Errorf("gap: got %s, event id %s", f.raw, e.lastID)
	}
	e.ids(b.upTo(6, 10, 1)...)
}

// What cannot get better by itself is a status, which an EventSource takes as
// final.
func TestEventsRefused(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens)
	for name, tc := range map[string]struct {
		query  string
		header []string
		want   *proto.Problem
	}{
		"no permission":  {"channel=secret", nil, proto.ProblemForbidden},
		"bad channel":    {"channel=a..b", nil, proto.ProblemInvalidParameter},
		"bad since":      {"since=abc", nil, proto.ProblemInvalidParameter},
		"bad header":     {"", []string{"Last-Event-ID", "abc"}, proto.ProblemInvalidParameter},
		"forged token":   {"token=abc", nil, proto.ProblemUnauthorized},
		"expired token":  {"token=" + token(t, "u", -time.Minute, "secret"), nil, proto.ProblemUnauthorized},
		"foreign origin": {"", []string{"Origin", "https://evil.example"}, proto.ProblemOrigin},
	} {
		t.Run(name, func(t *testing.T) {
			e := g.ask(http.DefaultClient, "http://"+g.Addr().String(), tc.query, tc.header...)
			var p proto.Problem
			if err := json.NewDecoder(e.resp.Body).Decode(&p); err != nil || e.resp.StatusCode != tc.want.Status ||
				p.Type != tc.want.Type {
				t.Errorf("got %s %+v, %v; want %d %s", e.resp.Status, p, err, tc.want.Status, tc.want.Type)
			}
		})
	}
	e := g.events("channel=secret", "Authorization", "Bearer "+token(t, "u", time.Minute, "secret"))
	e.want(proto.FrameWelcome)
}

// What gets better by itself ends a stream that says when to come back.
func TestEventsTurnedAway(t *testing.T) {
	t.Parallel() // it waits more than it works
	b := newBroker(t)
	g := b.gateway(withTokens, func(c *Config) { c.MaxPerIP = 1 })
	first := g.events("channel=secret&token=" + token(t, "u", 10*time.Second, "secret"))
	first.want(proto.FrameWelcome)
	second := g.events("")
	if f := second.want("problem"); f.Code != proto.CloseTooManyConnections.String() {
		t.Errorf("got %s", f.raw)
	}
	if code := second.closed(); code != proto.CloseTooManyConnections || second.retry < 5*time.Second {
		t.Errorf("got %v, to come back after %s", code, second.retry)
	}
	if code := first.closed(); code != proto.CloseTokenExpired {
		t.Errorf("got %v, want %v", code, proto.CloseTokenExpired)
	}
}

func TestEventsDrain(t *testing.T) {
	t.Parallel() // it waits more than it works
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.Drain = time.Minute })
	g.drainPace = 400 * time.Millisecond // eight seconds in all: a busy machine may stop for some
	var all []*source
	for range 20 {
		e := g.events("")
		e.want(proto.FrameWelcome)
		all = append(all, e)
	}
	b.publish("broadcast", "1")
	all[0].ids(b.id(1)) // it is on its way to the others, too
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	natstest.Eventually(t, patience, "the gateway drains", g.draining.Load)
	late := g.events("") // the listener is open until the last client has left
	if code := late.closed(); code != proto.CloseRestart {
		t.Errorf("a late client: got %v, want %v", code, proto.CloseRestart)
	}
	for i, e := range all {
		if i > 0 {
			e.ids(b.id(1))
		}
		if code := e.closed(); code != proto.CloseGoingAway || e.retry > time.Second {
			t.Errorf("client %d: got %v, to come back after %s", i, code, e.retry)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
}
