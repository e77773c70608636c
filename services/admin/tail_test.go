package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
)

// tailing opens a tail and returns how to read its next event.
func (b *browser) tailing(query string) (next func() (event, data string), stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"api/tail?"+query, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, cookie := range b.cookies {
		req.AddCookie(cookie)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		b.t.Fatalf("tail: %v, %v", resp, err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	next = func() (event, data string) {
		for lines.Scan() {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
			case "event":
				event = value
			case "data":
				return event, value
			}
		}
		return "", ""
	}
	if event, data := next(); event != "state" || data != `{"connected":true}` {
		b.t.Fatalf("got %s %s", event, data)
	}
	stop = sync.OnceFunc(func() { cancel(); _ = resp.Body.Close() })
	b.t.Cleanup(stop)
	return next, stop
}

func (c *console) store(channel, event, sender, data string) string {
	c.t.Helper()
	m := proto.Message{Channel: channel, Event: event, Data: json.RawMessage(data), Sender: sender,
		Time: "2026-11-28T16:58:36.123Z"}
	ack, err := c.js.PublishMsg(context.Background(),
		natstest.NewMsg(&m, natstest.Headers{Accepted: time.Now(), Source: "192.0.2.1"}, false))
	if err != nil {
		c.t.Fatal(err)
	}
	info, err := c.streamInfo(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	return proto.Cursor{Epoch: natsx.EpochsOf(info).At(ack.Sequence), Seq: proto.Number(ack.Sequence, 0)}.String()
}

// A tail shows what matches, numbers as they are, and counts what is too much.
func TestTail(t *testing.T) {
	c := start(t)
	b := c.as(users.Viewer)
	next, stop := b.tailing("channel=orders.*&sender=shop&event=paid&text=NEEDLE")
	c.store("orders.eu", "paid", "shop", `"hay"`)
	c.store("orders.eu", "paid", "bank", `"needle"`)
	c.store("orders.eu", "message", "shop", `"needle"`)
	c.store("stock", "paid", "shop", `"needle"`)
	id := c.store("orders.eu", "paid", "shop", `{"needle":9007199254740993.10}`)
	event, data := next()
	if event != "message" || !strings.Contains(data, `"id":"`+id+`"`) ||
		!strings.Contains(data, `9007199254740993.10`) ||
		!strings.HasPrefix(data, `{"bytes":30,`) || !json.Valid([]byte(data)) {
		t.Errorf("got %s %s", event, data)
	}
	stop()
	next, _ = b.tailing("")
	const many = 300
	for i := range many {
		c.store("flood", "message", "shop", fmt.Sprint(i))
	}
	shown, left := 0, 0
	for shown+left < many {
		switch event, data := next(); event {
		case "message":
			shown++
		case "dropped":
			var d struct{ Count, Total int }
			if err := json.Unmarshal([]byte(data), &d); err != nil || d.Count < 1 {
				t.Fatalf("%s: %v", data, err)
			}
			left = d.Total
		case "":
			t.Fatalf("the tail ended after %d and %d", shown, left)
		}
	}
	if shown+left != many || shown < tailRate {
		t.Errorf("%d were shown and %d counted", shown, left)
	}
	b.want(http.StatusBadRequest, "GET", "api/tail?channel=a..b", nil)
	c.browser().want(http.StatusUnauthorized, "GET", "api/tail", nil)
}

// Tails end with the console, and a user has a few of them.
func TestTailsEnd(t *testing.T) {
	c := start(t)
	b := c.as(users.Viewer)
	var all []func() (string, string)
	for range maxTailsOfUser {
		next, _ := b.tailing("")
		all = append(all, next)
	}
	b.want(http.StatusTooManyRequests, "GET", "api/tail", nil)
	done := make(chan struct{})
	go func() { // ends with the console
		defer close(done)
		for _, next := range all {
			for event := "x"; event != ""; event, _ = next() {
			}
		}
	}()
	c.stop()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("a tail goes on")
	}
}

// A tail ends with its session: after a logout nothing more is shown.
func TestTailEndsWithItsSession(t *testing.T) {
	c := start(t)
	c.recheck = 20 * time.Millisecond
	b := c.as(users.Viewer)
	next, _ := b.tailing("")
	c.store("a", "message", "shop", `1`)
	if event, _ := next(); event != "message" {
		t.Fatalf("got %s", event)
	}
	other := *b
	other.want(http.StatusNoContent, "POST", "api/logout", nil)
	for event := "x"; event != ""; event, _ = next() {
		if event == "message" {
			t.Error("a message after the logout")
		}
	}
}

// A tail is open when gateways keep what becomes of messages, so that the path of the first that it shows is known.
func TestTailOpensWhenPathsAreKept(t *testing.T) {
	c := start(t)
	var kept atomic.Bool
	c.serve(ask.Gateway, "one", map[string]ask.Answer{
		ask.MessagePath: ask.Handle(func(context.Context, ask.PathQuestion) (ask.GatewayPath, error) {
			time.Sleep(100 * time.Millisecond) // a gateway that is busy
			kept.Store(true)
			return ask.GatewayPath{}, nil
		})})
	kept.Store(false) // serve asked, too
	c.as(users.Viewer).tailing("")
	if !kept.Load() {
		t.Error("it opened before the gateway had answered")
	}
}
