package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/pusher"
)

// Draining says come back at once, a revoked app stay away.
func TestPusherGoodbyes(t *testing.T) {
	_, g, store := shopGateway(t, func(c *Config) { c.MaxPerIP = 2 })
	one, _ := g.pusher(), g.pusher()
	full := g.dialPusher("/app/" + shopKey + "?protocol=7")
	if code, _, _ := full.closed(); code != 4100 { // "4100: over capacity"
		t.Errorf("over the limit: got %d", code)
	}
	if err := store.Revoke(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if code, reason, _ := one.closed(); code != 4001 || !strings.Contains(reason, "revoked") {
		t.Errorf("revoked: got %d %s", code, reason)
	}
	if err := store.Add(t.Context(), shop()); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, "the app is there again", func() bool { return g.apps.known.ByID("3") != nil })
	g.nobodyIsCounted()
	again := g.pusher()
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := again.closed(); code != 4200 { // "4200: generic reconnect immediately"
		t.Errorf("drained: got %d", code)
	}
	if g.apps.running["3"] != nil && len(g.apps.running["3"].clients) > 0 {
		t.Error("clients that left are still known")
	}
}

// A key that has ended ends for who is connected with it, too, and for nobody else.
func TestPusherKeyEnds(t *testing.T) {
	_, g, store := shopGateway(t)
	old := g.pusher()
	k, _, err := store.Rotate(t.Context(), "shop", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, "the new key is known",
		func() bool { return g.apps.known.ByKey(k.Key, time.Now()) != nil })
	fresh := g.dialPusher("/app/" + k.Key + "?protocol=7")
	fresh.want("pusher:connection_established")
	old.subscribe("orders", "") // it has an hour
	g.apps.running["3"].endKeys(g.apps.known.ByID("3"), time.Now().Add(2*time.Hour))
	if code, reason, _ := old.closed(); code != 4001 || !strings.Contains(reason, "key has ended") {
		t.Errorf("after its hour: got %d %s", code, reason)
	}
	fresh.subscribe("orders", "")
	if _, _, err := store.Rotate(t.Context(), "shop", 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := fresh.closed(); code != 4001 {
		t.Errorf("without grace: got %d", code)
	}
}

// "4200-4299: … the client may reconnect immediately". Who does so, and meets the same gateway, for which there is no
// other, is closed with 4100 while it stops, since pusher-js does nothing for 15 s after a handshake that fails.
func TestPusherClientOfTheOnlyGateway(t *testing.T) {
	_, g, _ := shopGateway(t)
	c := g.pusher()
	g.draining.Store(true)
	back, five := g.dialPusher(shopPath), g.dialPusher("/app/"+shopKey+"?protocol=5")
	if code, reason, _ := back.closed(); code != 4100 || reason != "overload" {
		t.Errorf("come back at once: got %d %s", code, reason)
	}
	if code, _, last := five.closed(); code != 4100 || last.Event != "pusher:error" {
		t.Errorf("protocol 5: got %d after %s", code, last.raw)
	}
	begin := time.Now()
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < comingBack {
		t.Errorf("it left %s after its last client, who may be on the way back", took)
	}
	if code, _, _ := c.closed(); code != 4200 {
		t.Errorf("drained: got %d", code)
	}
}

// With another gateway beside it the handshake is refused, so that a balancer asks that one.
func TestPusherClientOfOneOfTwoGateways(t *testing.T) {
	b, g, _ := shopGateway(t)
	other := b.gateway()
	natstest.Eventually(t, patience, "they know each other", func() bool {
		return !g.sharing.alone() && !other.sharing.alone()
	})
	g.draining.Store(true)
	defer g.draining.Store(false)
	_, resp, err := websocket.DefaultDialer.Dial("ws://"+g.Addr().String()+shopPath, nil)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %v, %v; want 503", resp, err)
	}
}

// A client that does not answer is closed with the code for it.
func TestPusherHeartbeat(t *testing.T) {
	t.Parallel() // it waits more than it works
	_, g, _ := shopGateway(t, func(c *Config) { c.Heartbeat = time.Second })
	c := g.pusher()
	c.ws.SetPingHandler(func(string) error { return nil })
	if code, _, _ := c.closed(); code != 4201 { // "4201: pong reply not received"
		t.Errorf("got %d", code)
	}
}

// Protocol 5: "Pusher Channels will send pusher:ping event to the client. The client should respond with a pusher:pong
// event." The second ping shows that the answer to the first counted.
func TestPusherHeartbeatOfProtocol5(t *testing.T) {
	t.Parallel() // it waits
	_, g, _ := shopGateway(t, func(c *Config) { c.Heartbeat = patient })
	five := g.dialPusher("/app/" + shopKey + "?protocol=5")
	five.want("pusher:connection_established")
	for range 2 {
		five.want("pusher:ping")
		five.send(`{"event":"pusher:pong","data":{}}`)
	}
}

// A page with many channels subscribes to all of them at once when it comes back.
func TestPusherManyChannels(t *testing.T) {
	_, g, _ := shopGateway(t)
	c := g.pusher()
	for i := range 300 {
		c.send(`{"event":"pusher:subscribe","data":{"channel":"c%d"}}`, i)
	}
	for range 300 {
		c.want("pusher_internal:subscription_succeeded")
	}
	msg, err := g.nc.Request(pusher.SubjectChannels, []byte(`{"app":"3","prefix":"c29"}`), patience)
	if err != nil {
		t.Fatal(err)
	}
	var a pusher.ChannelsAnswer
	if err := json.Unmarshal(msg.Data, &a); err != nil || len(a.Channels) != 11 || a.Channels["c29"] != 1 {
		t.Errorf("channels: got %s, %v", msg.Data, err)
	}
	_ = c.ws.Close()
	natstest.Eventually(t, patience, "nobody follows them", func() bool {
		app := g.apps.running["3"]
		app.mu.Lock()
		defer app.mu.Unlock()
		return len(app.channels) == 0 && len(app.clients) == 0
	})
}

// What is no handshake, or of a page that may not connect, is refused before it.
func TestPusherHandshake(t *testing.T) {
	_, g, _ := shopGateway(t)
	resp, err := http.Get("http://" + g.Addr().String() + "/app/" + shopKey + "?protocol=7")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("got %d", resp.StatusCode)
	}
	d := websocket.Dialer{HandshakeTimeout: patience}
	if _, resp, err := d.Dial("ws://"+g.Addr().String()+"/app/"+shopKey+"?protocol=7",
		http.Header{"Origin": {"https://evil.example"}}); err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("another origin: got %v, %v", resp, err)
	}
	if app := g.apps.running["3"]; app != nil && len(app.clients) > 0 {
		t.Error("a handshake that failed left a client behind")
	}
}

// "Excluding event recipients": one connection does not get the event, live or from
// the stream, and all others do.
func TestPusherExcludedSocket(t *testing.T) {
	b, g, _ := shopGateway(t)
	one, other := g.pusher(), g.pusher()
	one.subscribe("a", "")
	other.subscribe("a", "")
	var last uint64
	for i, except := range []string{"", one.socket, "", "9.9", one.socket, other.socket} {
		m := proto.Message{Channel: "pusher.3.a", Event: "message", Data: json.RawMessage(fmt.Sprint(i)),
			Sender: "shop", Time: "2026-11-22T16:58:36.123Z"}
		ack, err := b.js.PublishMsg(t.Context(), natstest.NewMsg(&m, natstest.Headers{Except: except}, false))
		if err != nil {
			t.Fatal(err)
		}
		last = ack.Sequence
	}
	g.reached(last)
	for c, want := range map[*pusherClient]string{one: "0 2 3 5", other: "0 1 2 3 4"} {
		var got []string
		c.send(`{"event":"pusher:ping"}`)
		for {
			e, err := c.read()
			if err != nil || e.Event == "pusher:pong" {
				break
			}
			got = append(got, e.text())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	one.send(`{"event":"pusher:unsubscribe","data":{"channel":"a"}}`)
	one.subscribe("a", `,"since":"all"`)
	for _, want := range []string{"0", "2", "3", "5"} {
		if e := one.want("message"); e.text() != want {
			t.Errorf("replayed: got %s, want %s", e.raw, want)
		}
	}
}

// A client that talks without end is closed, with the code for it.
func TestPusherFlood(t *testing.T) {
	_, g, _ := shopGateway(t)
	c := g.pusher()
	go func() {
		for range 20 * maxPusherFrames {
			if c.ws.WriteMessage(websocket.TextMessage, []byte(`{"event":"pusher:pong"}`)) != nil {
				return // it is closed
			}
		}
	}()
	if code, _, _ := c.closed(); code != 4100 {
		t.Errorf("got %d", code)
	}
}

// An idle client of the Pusher protocol costs no more than others, and is parked as
// they are.
func TestPusherIdleClient(t *testing.T) {
	const clients = 2500
	mostBytes, mostGoroutines := 1600, 50
	if runtime.GOOS != "linux" {
		mostBytes, mostGoroutines = 12<<10, clients
	}
	_, g, _ := shopGateway(t, func(c *Config) { c.MaxPerIP = 0 })
	g.pusher().subscribe("orders", "")
	goroutines, before := runtime.NumGoroutine(), inUse()
	g.bringTo(shopPath, clients)
	natstest.Eventually(t, patience, "the goroutines of the handshakes have ended",
		func() bool { return runtime.NumGoroutine()-goroutines <= mostGoroutines })
	costs(t, before, clients, mostBytes)
}

// A message is encoded once for all clients of the protocol.
func TestPusherEncodedOnce(t *testing.T) {
	a := shop()
	m := &hub.Message{Channel: "pusher.3.orders", ID: "e-1",
		Body: []byte(`{"id":"e-1","channel":"pusher.3.orders","event":"message","data":{"n":1},"sender":"shop",` +
			`"time":"2026-11-22T16:58:36.123Z"}`)}
	words := pusherWords(&a, compression{})
	first := m.Encoded(words[0].plain.message)
	if again := m.Encoded(words[1].plain.message); len(first) == 0 || &first[0] != &again[0] {
		t.Error("two clients got bytes of their own")
	}
}

// What is too large, or no text, ends the connection; others do not notice.
func TestPusherOversized(t *testing.T) {
	b, g, _ := shopGateway(t)
	neighbour := g.pusher()
	neighbour.subscribe("a", "")
	large := g.pusher()
	large.send(`{"event":"pusher:subscribe","data":{"channel":"a","channel_data":%q}}`, strings.Repeat("x", 20<<10))
	if code, _, _ := large.closed(); code != 1009 {
		t.Errorf("20 KiB: got %d", code)
	}
	foul := g.pusher()
	if err := foul.ws.WriteMessage(websocket.TextMessage, []byte{0xff}); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := foul.closed(); code != 1007 {
		t.Errorf("no UTF-8: got %d", code)
	}
	many := g.pusher()
	for i := range maxFollowed + 1 {
		many.send(`{"event":"pusher:subscribe","data":{"channel":"c%d"}}`, i)
	}
	for range maxFollowed {
		many.want("pusher_internal:subscription_succeeded")
	}
	many.want("pusher:error")
	if e := many.want("pusher:subscription_error"); !strings.Contains(e.raw, "1000 subscriptions") {
		t.Errorf("one subscription too many: got %s", e.raw)
	}
	b.publish("pusher.3.a", `1`)
	neighbour.want("message")
}
