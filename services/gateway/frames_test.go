package gateway

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// First bytes of a whole text frame, plain and compressed.
const (
	plainText    = 0x81
	deflatedText = 0xc1
)

func TestCompressAbove(t *testing.T) {
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	body := func(n int) []byte { return bytes.Repeat([]byte("a"), n) }
	const above = 300
	for _, c := range []struct {
		name     string
		body     []byte
		deflated byte
		runs     int
	}{
		{"empty", nil, plainText, 0},
		{"a byte too short", body(above - 1), plainText, 0},
		{"long enough", body(above), deflatedText, 1},
		{"that does not get smaller", noise, plainText, 1},
		{"longer than the window", body(100000), deflatedText, 1},
	} {
		runs := 0
		f := compression{above, func() { runs++ }}.both(inFrames, slotFrameDeflated)
		m := &hub.Message{Body: c.body}
		plain, deflated := m.Encoded(f.plain.message), m.Encoded(f.deflated.message)
		if plain[0] != plainText || deflated[0] != c.deflated || &deflated[0] != &m.Encoded(f.deflated.message)[0] {
			t.Errorf("%s: got %#02x and %#02x, want %#02x and %#02x, always the same bytes", c.name, plain[0],
				deflated[0], plainText, c.deflated)
		}
		if c.deflated == plainText && &deflated[0] != &plain[0] {
			t.Errorf("%s: it is not the frame that everybody has", c.name)
		}
		if single := m.Encoded(f.deflated.single); single[0] != plainText {
			t.Errorf("%s: for one client alone: got %#02x", c.name, single[0])
		}
		if control := f.deflated.control(proto.Pong{Type: proto.FramePong}); control[0] != plainText {
			t.Errorf("%s: control frame: got %#02x", c.name, control[0])
		}
		if runs != c.runs {
			t.Errorf("%s: compressed %d times, want %d", c.name, runs, c.runs)
		}
	}
}

// counted is a socket that knows how much was read from it.
type counted struct {
	net.Conn
	n atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// dialDeflating connects as browsers do, and is told that it is understood.
func (g *gate) dialDeflating(query string) (*client, *counted) {
	g.t.Helper()
	var nc *counted
	d := websocket.Dialer{HandshakeTimeout: patience, EnableCompression: true,
		NetDial: func(network, addr string) (net.Conn, error) {
			c, err := net.Dial(network, addr)
			nc = &counted{Conn: c}
			return nc, err
		}}
	ws, resp, err := d.Dial("ws://"+g.Addr().String()+"/ws?"+query, nil)
	if err != nil {
		g.t.Fatalf("connect with %q: %v", query, err)
	}
	g.t.Cleanup(func() { _ = ws.Close() })
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(got, "permessage-deflate;") {
		g.t.Fatalf("negotiated %q", got)
	}
	return &client{t: g.t, ws: ws, named: true}, nc
}

// text is a JSON string of n bytes such as people write.
func text(n int) string {
	words := strings.Fields(
		"the machine on line three reports a pressure of twelve bar and waits for an operator to confirm it")
	r := rand.New(rand.NewPCG(uint64(n), 0))
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[r.IntN(len(words))] + " ")
	}
	return fmt.Sprintf("%q", b.String()[:n-2])
}

// Clients that have negotiated compression and clients that have not get the
// same messages, stored, ephemeral and replayed; each message is compressed
// once, however many shards and clients there are.
func TestCompressed(t *testing.T) {
	const each = 100
	b := newBroker(t)
	g := b.gateway()
	var plain, deflating []*client
	var bytesRead []*counted
	for range each {
		c, _ := g.connect("channel=a")
		plain = append(plain, c)
		d, nc := g.dialDeflating("channel=a")
		d.want(proto.FrameWelcome)
		deflating, bytesRead = append(deflating, d), append(bytesRead, nc)
	}

	first := b.publish("a", `"short"`)
	b.publish("a", text(1000))
	b.publish("a", text(60000))
	last := b.publish("a", `"short again"`)
	g.reached(last) // what is ephemeral comes through another subscription
	b.pass("a", text(2000))
	b.pass("a", `"short and ephemeral"`)
	const messages, long = 6, 3
	var want []string
	for i := range messages {
		want = append(want, plain[0].want("").raw)
		for n, c := range append(plain[1:], deflating...) {
			if f := c.want(""); f.raw != want[i] {
				t.Fatalf("message %d, client %d: got %.100s, want %.100s", i, n, f.raw, want[i])
			}
		}
	}
	for _, nc := range bytesRead {
		if n := nc.n.Load(); n > 40000 {
			t.Fatalf("a client that inflates has read %d bytes of some 64,000", n)
		}
	}
	if n := testutil.ToFloat64(g.m.compressed); n != long {
		t.Errorf("%d messages were compressed %v times", long, n)
	}

	// What it sends may be compressed, too.
	deflating[0].ws.EnableWriteCompression(true)
	deflating[0].send(`{"type":"subscribe","channel":"b"%s}`, strings.Repeat(" ", 1000))
	deflating[0].want(proto.FrameSubscribed)

	// Replayed from memory: the bytes that there are already.
	again, _ := g.dialDeflating("channel=a&since=" + b.id(first-1))
	again.want(proto.FrameWelcome)
	for i := range messages - 2 {
		if f := again.want(""); f.raw != want[i] {
			t.Errorf("replayed %d: got %.100s, want %.100s", i, f.raw, want[i])
		}
	}
	if n := testutil.ToFloat64(g.m.compressed); n != long {
		t.Errorf("after a replay it was compressed %v times, want %d", n, long)
	}

	// Replayed by a gateway that has to ask the stream: for one client alone.
	h := b.gateway()
	later, nc := h.dialDeflating("channel=a&since=" + b.id(first-1))
	later.want(proto.FrameWelcome)
	for i := range messages - 2 {
		if f := later.want(""); f.raw != want[i] {
			t.Errorf("from the stream, %d: got %.100s, want %.100s", i, f.raw, want[i])
		}
	}
	if n := testutil.ToFloat64(h.m.compressed); n != 0 || nc.n.Load() < 60000 {
		t.Errorf("compressed %v times for one client; it has read %d bytes", n, nc.n.Load())
	}
}

// With the setting at 0 nothing is negotiated.
func TestCompressionTurnedOff(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.CompressAbove = 0 })
	d := websocket.Dialer{HandshakeTimeout: patience, EnableCompression: true}
	ws, resp, err := d.Dial("ws://"+g.Addr().String()+"/ws?channel=a", nil)
	if err != nil || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Fatalf("got %v, %v", resp, err)
	}
	defer func() { _ = ws.Close() }()
	c := &client{t: t, ws: ws, named: true}
	c.want(proto.FrameWelcome)
	b.publish("a", text(1000))
	c.want("")
	if n := testutil.ToFloat64(g.m.compressed); n != 0 {
		t.Errorf("compressed %v times", n)
	}
}
