package gateway

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// Whatever stands in the URL, the request is made of copies of it, and has
// channels that are all different.
func FuzzRequest(f *testing.F) {
	f.Add("channel=a&channel=b.*&since=all&token=x", "")
	f.Add("channel=", "Bearer eyJ")
	f.Add("channel=%zz&since=%00;x", "Bearer ")
	f.Fuzz(func(t *testing.T, query, authorization string) {
		r := &http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{"Authorization": {authorization}}}
		req, err := (&Service{}).parseRequest(r, page{})
		if err != nil && strings.Contains(err.Error(), "token=") {
			t.Fatalf("an error shows a value: %v", err)
		}
		if req.channels == nil {
			t.Fatal("welcome would say null")
		}
		sorted := slices.Clone(req.channels)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(req.channels) || slices.Contains(req.channels, "") {
			t.Fatalf("got channels %q", req.channels)
		}
		if req.token != "" && !strings.Contains(query, "token") && !strings.HasSuffix(authorization, req.token) {
			t.Fatalf("got token %q from %q and %q", req.token, query, authorization)
		}
	})
}

// Whatever a client asks for, the gateway answers with frames that it
// documents, and either stays or says why it goes.
func FuzzSession(f *testing.F) {
	for _, frame := range []string{
		`{"type":"ping"}`,
		`{"type":"subscribe","channel":"a.*","since":"all"}`,
		`{"type":"subscribe","channels":["a","a.>","b"],"since":"last"}`,
		`{"type":"unsubscribe","channels":["a","b"]}`,
		`{"type":"auth","token":"eyJhbGciOiJIUzI1NiJ9.e30.x"}`,
		`{"type":"subscribe","channel":"a","since":"mib3k2x9-3"}`,
		`{"type":"subscribe","channel":"a","channel":"b"}`,
		"{", "null", "\xff",
	} {
		f.Add("channel=a.x&since=all", frame, frame)
	}
	f.Add("channel=&token=x", "", "")
	f.Add("channel=%3E&since=last", `{"type":"subscribe","channel":"b","since":"all"}`,
		`{"type":"subscribe","channel":"b","since":"all"}`)
	b := newBroker(f)
	b.publishMany(6, "a.x", "a.y", "b")
	g := b.gateway(func(c *Config) { c.Listen, c.JWTSecret, c.MaxPerIP = "", jwtSecret, 0 })
	dial := overUnix(f, g)
	known := []string{"", proto.FrameWelcome, proto.FrameSubscribed, proto.FrameUnsubscribed, proto.FrameAuthenticated,
		proto.FrameGap, proto.FrameError, proto.FramePong, proto.FramePosition}
	f.Fuzz(func(t *testing.T, query, one, two string) {
		if strings.ContainsAny(query, " #\r\n\x00") || (&url.URL{RawQuery: query}).RequestURI() == "" {
			return // no URL that a client would send
		}
		ws, err := dial(query)
		if err != nil {
			return // net/http's own refusal
		}
		c := &client{t: t, ws: ws}
		defer func() { _ = c.ws.Close() }()
		for _, frame := range []string{one, two, `{"type":"ping"}`} {
			_ = c.ws.WriteMessage(websocket.TextMessage, []byte(frame)) // it may be closed already
		}
		last := ""
		for {
			message, err := c.read()
			var closed *websocket.CloseError
			if errors.As(err, &closed) {
				if code := proto.CloseCode(closed.Code); !slices.Contains(proto.CloseCodes(), code) ||
					code.String() != closed.Text || code == proto.CloseInternal {
					t.Fatalf("it ended with %d %q", closed.Code, closed.Text)
				}
				// For other input the dialect may have no words.
				if last != closed.Text && utf8.ValidString(one) && utf8.ValidString(two) {
					t.Fatalf("the last error frame was %q, the goodbye %q", last, closed.Text)
				}
				return
			}
			if err != nil || !slices.Contains(known, message.Type) || !json.Valid([]byte(message.raw)) {
				t.Fatalf("got %q, %v", message.raw, err)
			}
			switch message.Type {
			case proto.FrameError:
				last = message.Code
			case proto.FramePong:
				return
			}
		}
	})
}

// overUnix serves a gateway that has no listener of its own on a socket file:
// ten thousand TCP connections would use up the ports.
func overUnix(f *testing.F, g *gate) (dial func(query string) (*websocket.Conn, error)) {
	l, err := net.Listen("unix", filepath.Join(f.TempDir(), "socket"))
	if err != nil {
		f.Fatal(err)
	}
	r := httpx.NewRouter(g.Service.log)
	g.Mount(r)
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: r}}
	server.Start()
	f.Cleanup(server.Close)
	d := websocket.Dialer{HandshakeTimeout: patience,
		NetDial: func(string, string) (net.Conn, error) { return net.Dial("unix", l.Addr().String()) }}
	return func(query string) (*websocket.Conn, error) {
		ws, _, err := d.Dial("ws://gateway/ws?"+query, nil)
		return ws, err
	}
}
