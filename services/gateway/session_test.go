package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// golden is a file of proto/testdata: what clients in all languages are
// tested against.
func golden(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "proto", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// A message reaches the client as the golden file has it, byte for byte.
func TestMessage(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect("channel=orders.eu")
	for _, file := range []string{"message.json", "message-ephemeral.json"} {
		m, err := proto.ParseMessage([]byte(golden(t, file)))
		if err != nil {
			t.Fatal(err)
		}
		want := golden(t, file)
		ephemeral := m.ID == ""
		if !ephemeral {
			want = strings.Replace(want, m.ID, b.id(1), 1)
		}
		m.ID = ""
		if err := b.nc.PublishMsg(natstest.NewMsg(&m, natstest.Headers{Source: "192.0.2.1"}, ephemeral)); err != nil {
			t.Fatal(err)
		}
		if got := c.want("").raw; got != want {
			t.Errorf("%s:\n got %s\nwant %s", file, got, want)
		}
	}
}

func TestWelcome(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	last := b.publishMany(3, "a")
	g.reached(last)
	for _, c := range []struct {
		query    string
		channels []string
	}{
		{"", []string{"broadcast"}},
		{"channel=a", []string{"a"}},
		{"channel=a&channel=b.*&channel=c.%3E", []string{"a", "b.*", "c.>"}},
		{"channel=a&channel=a", []string{"a"}},
		{"channel=", []string{}},
	} {
		_, w := g.connect(c.query)
		want := fmt.Sprintf(`{"type":"welcome","connection":%q,"heartbeat":25,"channels":%s,"resumed":false,"id":%q}`,
			w.Connection, jsonOf(c.channels), b.place(last))
		if w.raw != want || len(w.Connection) < 8 {
			t.Errorf("%q:\n got %s\nwant %s", c.query, w.raw, want)
		}
	}
	if members(golden(t, "welcome.json")) != members(g.dial("").want(proto.FrameWelcome).raw) {
		t.Error("the welcome has not the members of the golden file, in their order")
	}
}

func jsonOf(v any) string {
	b, err := proto.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// members are the names of an object's members, in order.
func members(object string) string {
	dec := json.NewDecoder(strings.NewReader(object))
	var names []string
	_, _ = dec.Token() // {
	for dec.More() {
		name, _ := dec.Token()
		names = append(names, name.(string))
		var skip json.RawMessage
		if dec.Decode(&skip) != nil {
			break
		}
	}
	return strings.Join(names, " ")
}

// Each frame a client may send, and its answer.
func TestFrames(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.AnonymousChannels = []string{"broadcast", "public.>"} })
	c, w := g.connect("")
	at := w.ID
	for _, f := range []struct{ send, want string }{
		{`{"type":"ping"}`, `{"type":"pong"}`},
		{`{"type":"subscribe","channel":"public.a"}`,
			`{"type":"subscribed","channel":"public.a","resumed":false,"id":"` + at + `"}`},
		{`{"type":"subscribe","channel":"public.a"}`,
			`{"type":"subscribed","channel":"public.a","resumed":false,"id":"` + at + `"}`},
		{`{"type":"subscribe","channel":"public.*","since":"` + at + `"}`,
			`{"type":"subscribed","channel":"public.*","resumed":true,"id":"` + at + `"}`},
		{`{"type":"unsubscribe","channel":"public.a"}`, `{"type":"unsubscribed","channel":"public.a"}`},
		{`{"type":"unsubscribe","channel":"never.was"}`, `{"type":"unsubscribed","channel":"never.was"}`},
		{`{"type":"subscribe","channel":"orders.eu"}`,
			`{"type":"error","code":"forbidden","detail":"\"orders.eu\" needs a token; without one you may ` +
				`follow broadcast, public.>","channel":"orders.eu"}`},
		{`{"type":"subscribe","channel":">"}`,
			`{"type":"error","code":"forbidden","detail":"\">\" needs a token; without one you may follow broadcast, ` +
				`public.>","channel":">"}`},
		{`{"type":"subscribe","channel":"public..a"}`,
			`{"type":"error","code":"bad-channel","detail":"invalid channel: \"public..a\" has an empty token"}`},
		{`{"type":"unsubscribe","channel":"a b"}`,
			`{"type":"error","code":"bad-channel","detail":"invalid channel: byte 0x20 at position 1; only ` +
				`printable ASCII without spaces is allowed"}`},
		{`{"type":"subscribe","channel":"public.b","since":"yesterday"}`,
			`{"type":"error","code":"bad-since","detail":"invalid id: \"yesterday\" is not an id that ` +
				`Herald gave out","channel":"public.b"}`},
		{`{"type":"auth","token":"x.y.z"}`,
			`{"type":"error","code":"bad-token","detail":"the token is not valid: this server has no token keys ` +
				`(HERALD_JWT_SECRET or HERALD_JWKS)"}`},
	} {
		c.send("%s", f.send)
		if got := c.next().raw; got != f.want {
			t.Errorf("%s\n got %s\nwant %s", f.send, got, f.want)
		}
	}
	c.send(`{"type":"subscribe","channels":["public.x","no","public.y"]}`)
	for _, want := range []string{"subscribed public.x", "error no", "subscribed public.y"} {
		if f := c.next(); f.Type+" "+f.Channel != want {
			t.Errorf("got %s, want %s", f.raw, want)
		}
	}
}

// What cannot be understood ends the connection.
func TestFramesThatEndIt(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	for name, frame := range map[string]string{
		"not JSON":       `hello`,
		"null":           `null`,
		"an array":       `[]`,
		"no type":        `{}`,
		"unknown type":   `{"type":"publish","channel":"a"}`,
		"unknown member": `{"type":"ping","x":1}`,
		"no channel":     `{"type":"subscribe"}`,
		"twice":          `{"type":"ping","type":"auth"}`,
		"no token":       `{"type":"auth"}`,
	} {
		c, _ := g.connect("")
		c.send("%s", frame)
		if code, last := c.closed(); code != proto.CloseInvalidPayload || last.Code != "invalid-payload" ||
			last.Detail == "" {
			t.Errorf("%s: got %d after %s, want 1007", name, code, last.raw)
		}
	}
}

// A client follows exactly what it asked for, each message once, however many
// of its names take it in.
func TestSubscriptions(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect(channels("a.*", "a.x", "b.>"))
	published := []string{"a.x", "a.y", "a.x.y", "b", "b.c", "b.c.d", "c"}
	want := []string{}
	for _, channel := range published {
		seq := b.publish(channel, "1")
		if slices.Contains([]string{"a.x", "a.y", "b.c", "b.c.d"}, channel) {
			want = append(want, b.id(seq))
		}
	}
	c.ids(want...)
	g.reached(uint64(len(published)))
	c.send(`{"type":"unsubscribe","channel":"a.*"}`)
	c.want(proto.FrameUnsubscribed)
	c.send(`{"type":"subscribe","channel":"c"}`)
	c.want(proto.FrameSubscribed)
	want = want[:0]
	for _, channel := range published {
		seq := b.publish(channel, "2")
		if slices.Contains([]string{"a.x", "b.c", "b.c.d", "c"}, channel) {
			want = append(want, b.id(seq))
		}
	}
	c.ids(want...)
}

// A connection has a bound of subscriptions, and stays when it reaches it.
func TestSubscriptionLimit(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect("channel=")
	for i := range maxFollowed / proto.MaxChannels {
		names := make([]string, proto.MaxChannels)
		for j := range names {
			names[j] = fmt.Sprintf("c%d.%d", i, j)
		}
		c.send(`{"type":"subscribe","channels":%s}`, jsonOf(names))
		for range names {
			c.want(proto.FrameSubscribed)
		}
	}
	c.send(`{"type":"subscribe","channel":"one.more"}`)
	if f := c.want(proto.FrameError); f.Code != proto.ErrorLimit || f.Channel != "one.more" {
		t.Errorf("got %s", f.raw)
	}
	c.send(`{"type":"unsubscribe","channel":"c0.0"}`)
	c.want(proto.FrameUnsubscribed)
	c.send(`{"type":"subscribe","channel":"one.more"}`)
	c.want(proto.FrameSubscribed)
	c.ids(b.id(b.publish("one.more", "1")))
}

// A panic in one session is logged and costs that client its connection.
func TestSessionPanics(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	g.verifier = nil // before the first client: an auth frame now panics
	other, _ := g.connect("")
	c, w := g.connect("")
	c.send(`{"type":"auth","token":"x"}`)
	if code, _ := c.closed(); code != proto.CloseInternal {
		t.Errorf("got %d, want %d", code, proto.CloseInternal)
	}
	if lines := g.log.With("a session panicked"); len(lines) != 1 || lines[0]["conn"] != w.Connection ||
		lines[0]["level"] != "ERROR" {
		t.Errorf("logged %v", lines)
	}
	other.ids(b.id(b.publish("broadcast", "1")))
}

// A client is one object, and 576 bytes are one of the sizes that Go's allocator
// has (runtime/sizeclasses.go); the next is 640.
func TestSessionSize(t *testing.T) {
	if got := unsafe.Sizeof(session{}); got > 576 {
		t.Errorf("a session has %d bytes, want at most 576", got)
	}
}

// Channels named while connecting are confirmed as those of subscribe frames are.
func TestSubscribedForTheURL(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	g.reached(b.publishMany(3, "a"))
	frames := func(query string, want ...string) {
		t.Helper()
		c := g.dial(query)
		c.raw = true
		for _, w := range want {
			f := c.next()
			if got := strings.TrimSpace(f.Type + " " + f.Channel); got != w {
				t.Errorf("%s: got %s, want %s", query, f.raw, w)
			}
			if f.Type == proto.FrameSubscribed && (f.ID != b.id(3) && f.ID != b.place(3) ||
				f.Resumed != strings.Contains(query, "since")) {
				t.Errorf("%s: got %s", query, f.raw)
			}
		}
		c.send(`{"type":"ping"}`)
		c.want(proto.FramePong)
	}
	frames("channel=a&channel=b.*", "welcome", "subscribed a", "subscribed b.*")
	frames("channel=a&channel=b&since="+b.id(2), "welcome", "a", "subscribed a", "subscribed b")
	frames("channel=a&since=last", "welcome", "a", "subscribed a")
	frames("channel=", "welcome")
	frames("", "welcome") // none was named
	e := g.events("channel=a&channel=b&since=" + b.id(2))
	e.want(proto.FrameWelcome)
	b.publish("a", "4")
	e.ids(b.id(3), b.id(4))
	if len(e.told) != 2 || e.told[0].Channel != "a" || e.told[1].Channel != "b" || !e.told[1].Resumed ||
		e.told[1].ID != b.id(3) && e.told[1].ID != b.place(3) {
		t.Errorf("over Server-Sent Events: got %v", e.told)
	}
}

// What a frame could ask for may stand in the URL: each name with a since of its
// own, and a refusal that ends nothing.
func TestSubscribeInTheURL(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens)
	g.reached(b.publishMany(6, "public.a", "public.b@x")) // 1, 3, 5 and 2, 4, 6
	query := url.Values{"channel": {"public.a"}, "since": {b.id(4)}, "subscribe": {"public.b@x@" + b.id(2), "secret",
		"public.c", "a..b", "public.d@x y", "public.d@all", "other"}}.Encode()
	want := []string{
		"welcome", b.id(5), "subscribed public.a", // as without the others
		b.id(4), b.id(6), "subscribed public.b@x",
		"error forbidden secret", "subscribed public.c", "error bad-channel", "error bad-since public.d",
		"subscribed public.d", "error forbidden other",
		b.id(7), // live
	}
	line := func(f frame) string {
		if f.Type == "" {
			return f.ID
		}
		return strings.Join(strings.Fields(f.Type+" "+f.Code+" "+f.Channel), " ")
	}
	c := g.dial(query)
	c.raw = true
	var got []string
	for range len(want) - 1 {
		got = append(got, line(c.next()))
	}
	e := g.events(query)
	e.want(proto.FrameWelcome)
	e.ids(b.id(5), b.id(4), b.id(6))
	for _, code := range []string{proto.ErrorForbidden, proto.ErrorBadChannel, proto.ErrorBadSince,
		proto.ErrorForbidden} {
		if f := e.want("problem"); f.Code != code {
			t.Errorf("over Server-Sent Events: got %s, want %s", f.raw, code)
		}
	}
	b.publish("public.c", "7")
	e.ids(b.id(7))
	if got = append(got, line(c.next())); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	var told []string
	for _, f := range e.told {
		told = append(told, f.Channel)
	}
	if strings.Join(told, " ") != "public.a public.b@x public.c public.d" {
		t.Errorf("over Server-Sent Events: got %v", told)
	}

	alone := g.events("subscribe=public.c@last") // and not broadcast
	if f := alone.want(proto.FrameWelcome); len(f.Channels) != 0 {
		t.Errorf("got %s", f.raw)
	}
	alone.ids(b.id(7))
	many := g.ask(http.DefaultClient, "http://"+g.Addr().String(), strings.Repeat("channel=public.a&", 50)+
		strings.Repeat("subscribe=public.b&", 51))
	if many.resp.StatusCode != http.StatusBadRequest {
		t.Errorf("101 names: got %s", many.resp.Status)
	}
}
