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

// Channels that a setting takes from everybody are taken from who is connected, too, in
// every dialect, and nothing else is.
func TestChannelsTakenAway(t *testing.T) {
	b := newBroker(t)
	a := b.administrator(t)
	g := b.socketio(func(c *Config) {
		c.AnonymousChannels, c.JWTSecret = []string{proto.Broadcast, "orders.>"}, jwtSecret
	})
	named, _ := g.connect("channel=broadcast&channel=orders.eu")
	asked, _ := g.connect("")
	asked.send(`{"type":"subscribe","channel":"orders.*"}`)
	asked.want(proto.FrameSubscribed)
	covered := g.dialAs(token(t, "anna", time.Hour, "orders.>"), "channel=orders.eu")
	covered.want(proto.FrameWelcome)
	covered.want(proto.FrameSubscribed)
	one := g.events("channel=orders.eu")
	one.want(proto.FrameWelcome)
	two := g.events("channel=broadcast&channel=orders.eu")
	two.want(proto.FrameWelcome)
	socket, _ := g.io(`{"channels":["broadcast","orders.eu"]}`, nil)
	recovering, _ := g.io(`{"channels":["broadcast","orders.eu"]}`, asBrowser)
	recovering.place()
	poller := g.poller(4, "")
	poller.send(`40{"channels":["broadcast","orders.eu"]}`)
	poller.get(`40{"sid":`)
	old := g.session(3, "&channel=broadcast&channel=orders.eu", nil)
	old.want("40")
	replaying, _ := g.connect("channel=orders.us&since=all")
	replaying.send(`{"type":"ping"}`) // answered once it is live
	replaying.want(proto.FramePong)

	a.set("anonymous-channels", proto.Broadcast)
	taken := func(f frame, channel string) {
		t.Helper()
		if f.Channel != channel || f.Reason != proto.ErrorForbidden {
			t.Errorf("got %s, want %s, forbidden", f.raw, channel)
		}
	}
	taken(named.want(proto.FrameUnsubscribed), "orders.eu")
	taken(asked.want(proto.FrameUnsubscribed), "orders.*")
	taken(replaying.want(proto.FrameUnsubscribed), "orders.us")
	taken(one.want(proto.FrameUnsubscribed), "orders.eu")
	if code := one.closed(); code != proto.CloseForbidden {
		t.Errorf("a stream that follows nothing any more: got %d", code)
	}
	taken(two.want(proto.FrameUnsubscribed), "orders.eu")
	const unsubscribed = `42["herald:unsubscribed",{"type":"unsubscribed","channel":"orders.eu","reason":"forbidden"}]`
	socket.want(unsubscribed)
	recovering.want(unsubscribed)
	if place := recovering.place(); place != "" {
		t.Errorf("a client that misses what is of orders.eu now would recover from %s", place)
	}
	old.want(unsubscribed)
	if got := poller.get("42"); got != unsubscribed {
		t.Errorf("a client that polls: got %s", got)
	}
	b.publish("orders.eu", `"secret"`)
	b.publish(proto.Broadcast, `"news"`)
	if f := covered.want(""); f.Channel != "orders.eu" {
		t.Errorf("whom a token allows: got %s", f.raw)
	}
	for _, f := range []frame{named.want(""), asked.want(""), two.want("")} {
		if f.Channel != proto.Broadcast {
			t.Errorf("got %s, want what is left", f.raw)
		}
	}
	for _, got := range []string{socket.next(), old.next(), poller.get("42")} {
		if !strings.Contains(got, "news") {
			t.Errorf("got %s, want what is left", got)
		}
	}
	asked.send(`{"type":"subscribe","channel":"orders.eu"}`)
	if f := asked.want(proto.FrameError); f.Code != proto.ErrorForbidden {
		t.Errorf("again: got %s", f.raw)
	}
	for _, c := range []*client{named, asked, replaying} {
		_ = c.ws.Close()
	}
}

// A client of an app follows the app's channels, which no setting of anybody's changes.
func TestAppsKeepTheirChannels(t *testing.T) {
	b := newBroker(t)
	a := b.administrator(t)
	shelf := b.shelf()
	if err := shelf.Add(t.Context(), shop()); err != nil {
		t.Fatal(err)
	}
	g := b.gateway()
	natstest.Eventually(t, patience, "the app is known",
		func() bool { return g.apps.known.ByKey(shopKey, time.Now()) != nil && g.apps.loaded.Load() })
	c := g.pusher()
	c.subscribe("news", "")
	watcher, _ := g.connect("channel=orders.eu")
	a.set("anonymous-channels", proto.Broadcast)
	watcher.want(proto.FrameUnsubscribed) // enforced
	c.send(`{"event":"pusher:ping","data":{}}`)
	c.want("pusher:pong")
}

// A page whose origin is taken off the list is closed, in every dialect, and pages that
// may connect stay.
func TestOriginsTakenAway(t *testing.T) {
	b := newBroker(t)
	a := b.administrator(t)
	shelf := b.shelf()
	if err := shelf.Add(t.Context(), shop()); err != nil {
		t.Fatal(err)
	}
	g := b.socketio(func(c *Config) { c.AllowedOrigins = []string{"https://old.example", "https://app.example"} })
	natstest.Eventually(t, patience, "the app is known",
		func() bool { return g.apps.known.ByKey(shopKey, time.Now()) != nil && g.apps.loaded.Load() })
	from := func(origin string) http.Header { return http.Header{"Origin": {origin}} }
	dial := func(origin string) *client {
		t.Helper()
		c, _, err := g.try("", from(origin))
		if err != nil {
			t.Fatal(err)
		}
		c.want(proto.FrameWelcome)
		return c
	}
	gone, stays, own := dial("https://old.example"), dial("https://app.example"), dial("http://"+g.Addr().String())
	stream := g.events("", "Origin", "https://old.example")
	stream.want(proto.FrameWelcome)
	socket, _ := g.io("", from("https://old.example"))
	apps, _, err := websocket.DefaultDialer.Dial(fmt.Sprintf("ws://%s/app/%s?protocol=7", g.Addr(), shopKey),
		from("https://old.example"))
	if err != nil {
		t.Fatal(err)
	}
	page := &pusherClient{t: t, ws: apps}
	defer func() { _ = apps.Close() }()
	page.want("pusher:connection_established")

	a.set("allowed-origins", "https://app.example")
	if code, f := gone.closed(); code != proto.CloseOrigin || !strings.Contains(f.Detail, "origin") {
		t.Errorf("over WebSocket: got %d after %s", code, f.raw)
	}
	if code := stream.closed(); code != proto.CloseOrigin {
		t.Errorf("an event stream: got %d", code)
	}
	if code, before := socket.ended(); code != int(proto.CloseOrigin) || len(before) != 2 || before[1] != "41" {
		t.Errorf("Socket.IO: got %d after %q", code, before)
	}
	if code, _, _ := page.closed(); code != 4009 {
		t.Errorf("Pusher: got %d", code)
	}
	b.publish(proto.Broadcast, `"news"`)
	for _, c := range []*client{stays, own} {
		c.want("")
		_ = c.ws.Close()
	}
}

// A page that is one more than are told apart connects again, and is judged by its name.
func TestManyOrigins(t *testing.T) {
	b := newBroker(t)
	a := b.administrator(t)
	g := b.gateway(func(c *Config) { c.AllowedOrigins = []string{"*"} })
	for i := range maxPages {
		g.pages.number(page{origin: fmt.Sprintf("https://%d.example", i)})
	}
	header := http.Header{"Origin": {"https://app.example"}}
	c, _, err := g.try("", header)
	if err != nil {
		t.Fatal(err)
	}
	c.want(proto.FrameWelcome)
	a.set("allowed-origins", "https://app.example")
	if code, _ := c.closed(); code != proto.CloseReconnect {
		t.Errorf("got %d", code)
	}
	if c, _, err = g.try("", header); err != nil {
		t.Fatal(err)
	}
	c.want(proto.FrameWelcome)
	_ = c.ws.Close()
}
