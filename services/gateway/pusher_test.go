package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/pusher"
	"github.com/herald-push/herald/services/internal/pusher/pushertest"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	shopKey    = "278d425bdf160c739803" // that of the documentation's worked examples
	shopSecret = "7ad3773142a6692b25b8"
	shopPath   = "/app/" + shopKey + "?protocol=7"
)

// shelf is the bucket of apps, as ingest makes it.
func (b *broker) shelf() *keystore.AppStore {
	b.t.Helper()
	js, err := jetstream.New(b.nc)
	if err != nil {
		b.t.Fatal(err)
	}
	store, err := keystore.MakeApps(context.Background(), js, 1)
	if err != nil {
		b.t.Fatal(err)
	}
	return store
}

func shop() pusher.App {
	return pusher.App{ID: "3", Name: "shop", Prefix: "pusher.3", Keys: []pusher.Key{{Key: shopKey, Secret: shopSecret}}}
}

// shopGateway starts a gateway that knows the app shop.
func shopGateway(t testing.TB, change ...func(*Config)) (*broker, *gate, *keystore.AppStore) {
	t.Helper()
	b := newBroker(t)
	store := b.shelf()
	if err := store.Add(t.Context(), shop()); err != nil {
		t.Fatal(err)
	}
	g := b.gateway(change...)
	natstest.Eventually(t, patience, "the apps are known",
		func() bool { return g.apps.known.ByKey(shopKey, time.Now()) != nil && g.apps.loaded.Load() })
	return b, g, store
}

// pusherEvent is what a client of the protocol receives.
type pusherEvent struct {
	Event, Channel, ID string
	Data               json.RawMessage
	raw                string
}

// text is data that is a string, as most is.
func (e pusherEvent) text() (s string) {
	_ = json.Unmarshal(e.Data, &s) // else empty
	return s
}

type pusherClient struct {
	t      testing.TB
	ws     *websocket.Conn
	socket string // its id
}

func (g *gate) dialPusher(path string) *pusherClient {
	g.t.Helper()
	d := websocket.Dialer{HandshakeTimeout: patience}
	ws, resp, err := d.Dial("ws://"+g.Addr().String()+path, nil)
	if err != nil {
		g.t.Fatalf("connect to %s: %v (%v)", path, err, resp)
	}
	g.t.Cleanup(func() { _ = ws.Close() })
	return &pusherClient{t: g.t, ws: ws}
}

// pusher connects a client of the app shop.
func (g *gate) pusher() *pusherClient {
	g.t.Helper()
	c := g.dialPusher("/app/" + shopKey + "?client=js&version=8.4.0&protocol=7&flash=false")
	var data struct {
		SocketID string `json:"socket_id"`
		Activity int    `json:"activity_timeout"`
	}
	e := c.want("pusher:connection_established")
	if err := json.Unmarshal([]byte(e.text()), &data); err != nil || data.Activity < leastActivity {
		g.t.Fatalf("established: %s: %v", e.raw, err)
	}
	c.socket = data.SocketID
	return c
}

func (c *pusherClient) read() (e pusherEvent, err error) {
	_ = c.ws.SetReadDeadline(time.Now().Add(patience))
	_, b, err := c.ws.ReadMessage()
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	e.raw = string(b)
	return e, err
}

func (c *pusherClient) want(event string) pusherEvent {
	c.t.Helper()
	e, err := c.read()
	if err != nil || e.Event != event {
		c.t.Fatalf("got %s, %v; want the event %s", e.raw, err, event)
	}
	return e
}

func (c *pusherClient) send(format string, args ...any) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		c.t.Fatal(err)
	}
}

// subscribe sends pusher:subscribe and reads the answer.
func (c *pusherClient) subscribe(channel, more string) {
	c.t.Helper()
	c.send(`{"event":"pusher:subscribe","data":{"channel":%q%s}}`, channel, more)
	if e := c.want("pusher_internal:subscription_succeeded"); e.Channel != channel {
		c.t.Fatalf("got %s, want the channel %s", e.raw, channel)
	}
}

// closed reads up to the end, and returns the code and the last event before it.
func (c *pusherClient) closed() (code int, reason string, last pusherEvent) {
	c.t.Helper()
	for {
		e, err := c.read()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed):
			return closed.Code, closed.Text, last
		case err != nil:
			c.t.Fatalf("the connection ended without a goodbye: %v", err)
		}
		last = e
	}
}

// The codes of the protocol, each with its rule of "Error codes".
func TestPusherCloseCodes(t *testing.T) {
	_, g, _ := shopGateway(t)
	for _, c := range []struct {
		rule, path string
		code       int
	}{
		{"4001: application does not exist", "/app/unknown-key?protocol=7", 4001},
		{"4005: path not found", "/app?protocol=7", 4005},
		{"4005: path not found, below", "/app/" + shopKey + "/more?protocol=7", 4005},
		{"4006: invalid version string format", "/app/" + shopKey + "?protocol=seven", 4006},
		{"4007: unsupported protocol version", "/app/" + shopKey + "?protocol=4", 4007},
		{"4006: invalid version string format, a sign", "/app/" + shopKey + "?protocol=-7", 4006},
		{"4006: invalid version string format, two of them", "/app/" + shopKey + "?protocol=7&protocol=4", 4006},
		{"4007: unsupported protocol version, out of range", "/app/" + shopKey + "?protocol=" + strings.Repeat("9", 30),
			4007},
		{"4008: no protocol version supplied, empty", "/app/" + shopKey + "?protocol=&version=8.4.0", 4008},
		{"4007: unsupported protocol version, later", "/app/" + shopKey + "?protocol=8", 4007},
		{"4008: no protocol version supplied", "/app/" + shopKey, 4008},
	} {
		client := g.dialPusher(c.path)
		code, reason, last := client.closed()
		if code != c.code || reason == "" {
			t.Errorf("%s: got %d %q", c.rule, code, reason)
		}
		if last.Event != "" { // "Version 6: a pusher:error event is only sent if an old WebSocket draft is in use"
			t.Errorf("%s: got the event %s before", c.rule, last.raw)
		}
	}
	five := g.dialPusher("/app/unknown-key?protocol=5")
	// "Legacy protocols: a pusher:error event is also sent before the connection is closed"
	code, _, last := five.closed()
	if code != 4001 || last.Event != "pusher:error" || !strings.Contains(string(last.Data), `"code":4001`) {
		t.Errorf("protocol 5: got %d after %s", code, last.raw)
	}
}

// What a client asks for, and what it is answered: each case names its rule.
func TestPusherRules(t *testing.T) {
	_, g, _ := shopGateway(t)
	key := shop().Keys[0]
	c := g.pusher()
	auth := func(channel string) string { return pushertest.SignChannel(key, c.socket, channel) }
	for _, rule := range []struct {
		name, send string
		want       []string // parts of the answers, in order
	}{
		{"ping: it will respond to a pusher:ping event with a pusher:pong event", `{"event":"pusher:ping","data":{}}`,
			[]string{`{"event":"pusher:pong","data":"{}"}`}},
		{"subscribe: public", `{"event":"pusher:subscribe","data":{"auth":"","channel":"a"}}`,
			[]string{`"event":"pusher_internal:subscription_succeeded","channel":"a"`}},
		{"subscribe: again", `{"event":"pusher:subscribe","data":{"channel":"a"}}`,
			[]string{`"event":"pusher_internal:subscription_succeeded","channel":"a"`}},
		{"double encoding: data of a pusher: event may be a string",
			`{"event":"pusher:subscribe","data":"{\"channel\":\"b\"}"}`,
			[]string{`subscription_succeeded","channel":"b"`}},
		{"subscribe: private, signed",
			fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":"private-x","auth":%q}}`,
				auth("private-x")), []string{`subscription_succeeded","channel":"private-x"`}},
		{"subscribe: private, the signature of another channel",
			fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":"private-y","auth":%q}}`, auth("private-x")),
			[]string{`"code":4009`, `"event":"pusher:subscription_error"`}},
		{"subscribe: private, without", `{"event":"pusher:subscribe","data":{"channel":"private-y"}}`,
			[]string{`"code":4009,"message":"auth: want KEY:SIGNATURE`, `"status":401`}},
		{"subscribe: private, no signature behind the key",
			`{"event":"pusher:subscribe","data":{"channel":"private-y","auth":"` + shopKey + `:"}}`,
			[]string{`"auth: want`, `"status":401`}},
		{"subscribe: private, an unknown key",
			`{"event":"pusher:subscribe","data":{"channel":"private-y","auth":"278d425bdf160c739804:00"}}`,
			[]string{`no such key`, `"status":401`}},
		{"subscribe: auth (String)", `{"event":"pusher:subscribe","data":{"auth":5,"channel":"private-y"}}`,
			[]string{`want an object`, `"channel":"private-y"`}},
		{"subscribe: channel (String)", `{"event":"pusher:subscribe","data":{"channel":5}}`,
			[]string{`want an object`}},
		{"subscribe: channel is not optional", `{"event":"pusher:subscribe","channel":"a","data":{}}`,
			[]string{`want an object`}},
		{"members have the case that is documented", `{"EVENT":"pusher:ping","data":{}}`, []string{`event: missing`}},
		{"members have the case that is documented, inside, too",
			`{"event":"pusher:subscribe","data":{"Channel":"a"}}`, []string{`want an object`}},
		{"subscribe: null is as if it were not there",
			`{"event":"pusher:subscribe","channel":null,"data":{"channel":"c","auth":null}}`,
			[]string{`subscription_succeeded","channel":"c"`}},
		{"subscribe: presence", `{"event":"pusher:subscribe","data":{"channel":"presence-y"}}`,
			[]string{`presence channels are not supported`, `"status":501`}},
		{"subscribe: encrypted", `{"event":"pusher:subscribe","data":{"channel":"private-encrypted-y"}}`,
			[]string{`encrypted channels are not supported`, `"status":501`}},
		{"channel naming conventions", `{"event":"pusher:subscribe","data":{"channel":"a b"}}`,
			[]string{`invalid channel name`, `"type":"BadChannel"`}},
		{"channel naming conventions: # is reserved", `{"event":"pusher:subscribe","data":{"channel":"#a"}}`,
			[]string{`invalid channel name`, `"type":"BadChannel"`}},
		{"users", `{"event":"pusher:subscribe","data":{"channel":"#server-to-user-1"}}`,
			[]string{`users are not supported`, `"channel":"#server-to-user-1"`}},
		{"channel naming conventions: no wildcards", `{"event":"pusher:subscribe","data":{"channel":"*"}}`,
			[]string{`invalid channel name`, `"type":"BadChannel"`}},
		{"channel naming conventions: length", `{"event":"pusher:subscribe","data":{"channel":"` +
			strings.Repeat("a", 165) +
			`"}}`, []string{`invalid channel name`, `"type":"BadChannel"`}},
		{"cache miss", `{"event":"pusher:subscribe","data":{"channel":"cache-x"}}`,
			[]string{`subscription_succeeded","channel":"cache-x"`, `"event":"pusher:cache_miss","channel":"cache-x"`}},
		{"client events", `{"event":"client-typing","channel":"private-x","data":{}}`, []string{`"code":4301`}},
		{"signin", `{"event":"pusher:signin","data":{"auth":"x","user_data":"{}"}}`, []string{`user authentication`}},
		{"unknown event", `{"event":"pusher:nonsense","data":{}}`, []string{`pusher:error`}},
		{"no event", `{"data":{}}`, []string{`pusher:error`}},
		{"no JSON", `hello`, []string{`pusher:error`}},
		{"a wrong place to resume from", `{"event":"pusher:subscribe","data":{"channel":"c","since":"?"}}`,
			[]string{`pusher:error`, `"BadSince"`}},
		{"unsubscribe, and it goes on", `{"event":"pusher:unsubscribe","data":{"channel":"a"}}`, nil},
		{"unsubscribe what is not there", `{"event":"pusher:unsubscribe","data":{"channel":"z"}}`, nil},
		{"pong", `{"event":"pusher:pong","data":{}}`, nil},
		{"ping", `{"event":"pusher:ping"}`, []string{`pusher:pong`}},
	} {
		c.send("%s", rule.send)
		for _, part := range rule.want {
			e, err := c.read()
			if err != nil || !strings.Contains(e.raw, part) {
				t.Fatalf("%s: got %s, %v; want %s", rule.name, e.raw, err, part)
			}
		}
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := c.closed(); code != 1003 { // "Binary WebSocket frames are not supported"
		t.Errorf("binary: got %d", code)
	}
}

// Messages arrive in Pusher's words, whoever published them, to who follows their
// channel; a native client follows the same one.
func TestPusherMessages(t *testing.T) {
	b, g, _ := shopGateway(t)
	c, native := g.pusher(), g.dial(channels("pusher.3.>"))
	native.want("welcome")
	c.subscribe("orders", "")
	c.subscribe("a..b", "")
	b.publish("pusher.3.other", `1`)
	b.publish("pusher.3.orders", `{"n":"a\"b"}`)
	b.publish("pusher.3.orders", `"plain \u00e9"`)
	b.publish("pusher.3.orders", `[1,2]`)
	last := b.publish("pusher.3.a.~.b", `7`)
	b.publish("pusher.4.orders", `"of another app"`)
	for _, want := range []string{
		`"channel":"orders","data":"{\"n\":\"a\\\"b\"}"`, `"channel":"orders","data":"plain \u00e9"`,
		`"channel":"orders","data":"[1,2]"`, `"channel":"a..b","data":"7"`,
	} {
		if e := c.want("message"); !strings.Contains(e.raw, want) || e.ID == "" {
			t.Errorf("got %s, want %s", e.raw, want)
		}
	}
	for range 5 {
		native.want("")
	}
	later := g.pusher()
	later.subscribe("orders", `,"since":"all"`)
	for range 3 {
		later.want("message")
	}
	later.send(`{"event":"pusher:ping"}`)
	later.want("pusher:pong")
	resumed := g.pusher()
	resumed.subscribe("a..b", fmt.Sprintf(`,"since":%q`, b.id(last-1)))
	if e := resumed.want("message"); e.Channel != "a..b" {
		t.Errorf("resumed: got %s", e.raw)
	}
}

// The first event on a cache channel is the newest there is.
func TestPusherCacheChannels(t *testing.T) {
	b, g, _ := shopGateway(t)
	for _, name := range []string{"cache-x", "private-cache-x"} {
		for i := range 3 {
			b.publish("pusher.3."+name, fmt.Sprint(i))
		}
		last := b.publish("pusher.3.other", `1`)
		g.reached(last)
		c := g.pusher()
		k := shop().Keys[0]
		c.subscribe(name, fmt.Sprintf(`,"auth":%q`, pushertest.SignChannel(k, c.socket, name)))
		if e := c.want("message"); e.text() != "2" || e.Channel != name {
			t.Errorf("%s: got %s, want the newest event", name, e.raw)
		}
		b.publish("pusher.3."+name, `3`)
		if e := c.want("message"); e.text() != "3" {
			t.Errorf("%s: got %s", name, e.raw)
		}
	}
}
