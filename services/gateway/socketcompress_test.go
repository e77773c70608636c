package gateway

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// deflating is a client that negotiated permessage-deflate, as browsers do.
type deflating struct {
	*websocket.Conn
	read *counted
}

func (g *gate) deflating(path string, header http.Header) deflating {
	g.t.Helper()
	var nc *counted
	dial := func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		nc = &counted{Conn: c}
		return nc, err
	}
	d := websocket.Dialer{HandshakeTimeout: patience, EnableCompression: true, NetDial: dial}
	ws, resp, err := d.Dial("ws://"+g.Addr().String()+path, header)
	if err != nil {
		g.t.Fatalf("connect to %s: %v", path, err)
	}
	g.t.Cleanup(func() { _ = ws.Close() })
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(got, "permessage-deflate;") {
		g.t.Fatalf("negotiated %q", got)
	}
	return deflating{ws, nc}
}

// Clients of every dialect over WebSocket get long messages compressed, if they negotiated it:
// each message once for all clients of the dialect that take it in the same form. Those that
// polled before, too.
func TestCompressedDialects(t *testing.T) {
	const each, long = 3, 20_000
	b, g, _ := shopGateway(t)
	g.socketsReady()
	type follower struct {
		name    string
		next    func() string
		deflate *counted // nil: it is not compressed
	}
	var all []follower
	add := func(name string, s *sock, read *counted) {
		all = append(all, follower{name, s.next, read})
	}
	for range each {
		for name, header := range map[string]http.Header{"plain": nil, "with details": asBrowser} {
			d := g.deflating("/socket.io/?EIO=4&transport=websocket", header)
			s := &sock{t, d.Conn}
			s.matches(`^0\{`)
			s.send(`40{"channels":["pusher.3.orders"]}`)
			if s.connected() != "" {
				s.place()
			}
			add("Socket.IO, "+name, s, d.read)
		}
		d := g.deflating("/socket.io/?EIO=3&transport=websocket&channel=pusher.3.orders", nil)
		s := &sock{t, d.Conn}
		s.matches(`^0\{`)
		s.want("40")
		add("Socket.IO, revision 3", s, d.read)

		p := g.poller(4, "")
		p.send(`40{"channels":["pusher.3.orders"]}`)
		p.get("40{")
		d = g.deflating(strings.Replace(p.url[strings.Index(p.url, "/socket.io/"):], "polling", "websocket", 1), nil)
		d.EnableWriteCompression(true) // as Chromium: all that it sends is compressed, however short
		s = &sock{t, d.Conn}
		s.send("2probe")
		s.want("3probe")
		s.send("5")
		s.send(`421["unsubscribe","none"]`) // answered once the session has gone over
		s.matches(`^431\[`)
		add("Socket.IO, upgraded", s, d.read)

		c := g.pusher()
		c.subscribe("orders", "")
		add("Pusher", &sock{t, c.ws}, nil)
		d = g.deflating(shopPath, nil)
		c = &pusherClient{t: t, ws: d.Conn}
		c.want("pusher:connection_established")
		c.subscribe("orders", "")
		add("Pusher, compressed", &sock{t, c.ws}, d.read)
	}
	before := testutil.ToFloat64(g.m.compressed)
	for i, data := range []string{text(long), `"short"`, text(long + 1)} {
		b.publish("pusher.3.orders", data)
		for _, f := range all {
			var read int64
			if f.deflate != nil {
				read = f.deflate.n.Load()
			}
			if got := f.next(); !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), data) {
				t.Fatalf("%s: message %d: got %.200s", f.name, i, got)
			}
			if f.deflate != nil && f.deflate.n.Load()-read > long/2 {
				t.Errorf("%s: it has read %d bytes of message %d", f.name, f.deflate.n.Load()-read, i)
			}
		}
	}
	// Plain, detailed, revision 3, Pusher; who was upgraded is plain, too.
	if got := testutil.ToFloat64(g.m.compressed) - before; got != 2*4 {
		t.Errorf("two long messages were compressed %v times for four kinds of clients", got)
	}
}

// An attachment is compressed like the text before it, and both stay in their order.
func TestCompressedBinary(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	d := g.deflating("/socket.io/?EIO=4&transport=websocket", nil)
	s := &sock{t, d.Conn}
	s.matches(`^0\{`)
	s.send("40")
	s.connected()
	b.publish("broadcast", `"data:application/octet-stream;base64,`+strings.Repeat("AAAA", 1000)+`"`)
	s.matches(`^451-\["message"`)
	read := d.read.n.Load()
	kind, got, err := d.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage || !bytes.Equal(got, make([]byte, 3000)) {
		t.Errorf("got kind %d, %d bytes, %v", kind, len(got), err)
	}
	if n := d.read.n.Load(); n > 1000 {
		t.Errorf("it has read %d bytes, %d of them before the attachment", n, read)
	}
}

// Frames are compressed one by one: only those that become smaller.
func TestDeflateFrames(t *testing.T) {
	z := compression{300, func() {}}
	short, long := textFrame([]byte("short")), textFrame(bytes.Repeat([]byte("a"), 300))
	small := z.deflate(long)
	if len(small) == 0 || len(small) > 30 {
		t.Fatalf("300 times the same became %d bytes", len(small))
	}
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	for name, c := range map[string]struct{ in, want []byte }{
		"none":            {nil, nil},
		"short ones":      {join(short, short), nil},
		"a long one":      {long, small},
		"the first":       {join(long, short), join(small, short)},
		"the last":        {join(short, long), join(short, small)},
		"between":         {join(short, long, short), join(short, small, short)},
		"two":             {join(long, short, long), join(small, short, small)},
		"of nothing else": {join(long, long), join(small, small)},
	} {
		if got := z.deflate(c.in); !bytes.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// An answer to a GET is compressed from 1024 bytes on, for who takes that; at another gateway
// than that of the session, too.
func TestPollingGzip(t *testing.T) {
	b := newBroker(t)
	owner, other := b.socketio(), b.socketio()
	off := b.socketio(func(c *Config) { c.CompressAbove = 0 })
	data := text(1024 - len(`42["message",]`))
	short := text(1023 - len(`42["message",]`))
	get := func(p *poller, accept string) (coding string, body []byte) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, p.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", accept) // the transport leaves the answer as it is then
		r.Header.Set("Referer", "http://"+r.Host+"/")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err = io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %q, %v", resp.Status, body, err)
		}
		return resp.Header.Get("Content-Encoding"), body
	}
	for name, c := range map[string]struct {
		g, asked           *gate
		eio                int
		data, accept, want string
	}{
		"who takes gzip":           {owner, owner, 4, data, "gzip, deflate, br", "gzip"},
		"revision 3":               {owner, owner, 3, data, "gzip", "gzip"},
		"at another gateway":       {owner, other, 4, data, "gzip", "gzip"},
		"who does not":             {owner, owner, 4, data, "br, gzip;q=0", ""},
		"a byte too short":         {owner, owner, 4, short, "gzip", ""},
		"compression is off":       {off, off, 4, data, "gzip", ""},
		"another, where it is off": {owner, off, 4, data, "gzip", ""},
	} {
		t.Run(name, func(t *testing.T) {
			channel := "public." + strings.ReplaceAll(name, " ", "-") // of which nothing may be on its way
			p := c.g.poller(c.eio, "&b64=1&channel="+url.QueryEscape(channel))
			want := fmt.Sprintf(`42["message",%s]`, c.data)
			if c.eio == 4 {
				p.send("40")
				p.get("40{")
			} else {
				p.get("2:40")
				want = fmt.Sprintf("%d:%s", len(want), want)
			}
			c.g.reached(b.publish(channel, c.data))
			coding, body := get(p.at(c.g, c.asked), c.accept)
			if coding == "gzip" {
				z, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(z); err != nil {
					t.Fatal(err)
				}
			}
			if coding != c.want || string(body) != want {
				t.Errorf("got the coding %q, %.100s… of %d bytes; want %q, %d bytes", coding, body, len(body), c.want,
					len(want))
			}
		})
	}
}
