package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// frame is every member that a frame from the gateway may have.
type frame struct {
	Type, ID, Channel, Event, Sender, Time  string
	Connection, Reason, Since, Code, Detail string
	Subject, Expires                        string
	Data                                    json.RawMessage
	Heartbeat                               int
	Channels                                []string
	Resumed                                 bool
	raw                                     string
}

// client is a WebSocket client that keeps nothing: each call reads a frame.
type client struct {
	t  testing.TB
	ws *websocket.Conn
	// named: the URL names channels, and read passes over the subscribed frames
	// for them, unless raw is set; confirmed counts those that have yet to come.
	named, raw bool
	confirmed  int
	places     bool // read does not pass over position frames
}

// try connects with a query such as "channel=a&since=b".
func (g *gate) try(query string, header http.Header) (*client, *http.Response, error) {
	d := websocket.Dialer{HandshakeTimeout: patience}
	ws, resp, err := d.Dial("ws://"+g.Addr().String()+"/ws?"+query, header)
	if err != nil {
		return nil, resp, err
	}
	g.t.Cleanup(func() { _ = ws.Close() })
	return &client{t: g.t, ws: ws, named: strings.Contains(query, "channel=")}, resp, nil
}

// dialSmall connects with a socket that takes little more than it is read.
func (g *gate) dialSmall(query string) *client {
	g.t.Helper()
	d := websocket.Dialer{HandshakeTimeout: patience, NetDial: func(network, addr string) (net.Conn, error) {
		nc, err := net.Dial(network, addr)
		if err == nil {
			err = nc.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return nc, err
	}}
	ws, _, err := d.Dial("ws://"+g.Addr().String()+"/ws?"+query, nil)
	if err != nil {
		g.t.Fatalf("connect with %q: %v", query, err)
	}
	g.t.Cleanup(func() { _ = ws.Close() })
	return &client{t: g.t, ws: ws, named: strings.Contains(query, "channel=")}
}

func (g *gate) dial(query string) *client {
	g.t.Helper()
	c, _, err := g.try(query, nil)
	if err != nil {
		g.t.Fatalf("connect with %q: %v", query, err)
	}
	return c
}

// connect dials and reads the welcome.
func (g *gate) connect(query string) (*client, frame) {
	g.t.Helper()
	c := g.dial(query)
	return c, c.want(proto.FrameWelcome)
}

func (c *client) read() (frame, error) {
	_ = c.ws.SetReadDeadline(time.Now().Add(patience))
	kind, b, err := c.ws.ReadMessage()
	if err != nil {
		return frame{}, err
	}
	f := frame{raw: string(b)}
	if err := json.Unmarshal(b, &f); err != nil || kind != websocket.TextMessage {
		return f, fmt.Errorf("frame of kind %d: %.200q: %w", kind, b, err)
	}
	switch {
	case f.Type == proto.FramePosition && !c.places:
		return c.read()
	case c.raw:
	case f.Type == proto.FrameWelcome && c.named:
		c.confirmed = len(f.Channels)
	case f.Type == proto.FrameSubscribed && c.confirmed > 0:
		c.confirmed--
		return c.read()
	}
	return f, nil
}

func (c *client) next() frame {
	c.t.Helper()
	f, err := c.read()
	if err != nil {
		c.t.Fatalf("read a frame: %v", err)
	}
	return f
}

// want reads one frame of this type; "" is a message.
func (c *client) want(kind string) frame {
	c.t.Helper()
	f := c.next()
	if f.Type != kind {
		c.t.Fatalf("got %s, want a frame of type %q", f.raw, kind)
	}
	return f
}

// ids reads messages up to the one with the last of these ids, and compares.
func (c *client) ids(want ...string) {
	c.t.Helper()
	for i, id := range want {
		if f := c.want(""); f.ID != id {
			c.t.Fatalf("message %d: got %s, want id %s", i, f.raw, id)
		}
	}
}

func (c *client) send(frame string, args ...any) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, frame, args...)); err != nil {
		c.t.Fatalf("send %s: %v", frame, err)
	}
}

// closed reads up to the end and returns the close code, and the error frame
// before it.
func (c *client) closed() (code proto.CloseCode, last frame) {
	c.t.Helper()
	for {
		f, err := c.read()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed):
			return proto.CloseCode(closed.Code), last
		case err != nil:
			c.t.Fatalf("the connection ended without a goodbye: %v", err)
		case f.Type == proto.FrameError:
			last = f
		}
	}
}

// ping asks for a pong; a connection that stayed answers.
func (c *client) ping() string {
	c.send(`{"type":"ping"}`)
	if f, err := c.read(); err != nil || f.Type != proto.FramePong {
		return fmt.Sprint(f.raw, err)
	}
	return ""
}
