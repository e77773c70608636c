package gateway

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// What strangers try after the handshake, and how it ends.
func TestHostileFrames(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	text, binary := websocket.TextMessage, websocket.BinaryMessage
	for _, c := range []struct {
		name  string
		kind  int
		frame string
		want  proto.CloseCode
	}{
		{"oversized", text, `{"type":"ping"` + strings.Repeat(" ", proto.MaxFrameBytes) + `}`, proto.CloseTooBig},
		{"a megabyte", text, strings.Repeat("x", 1<<20), proto.CloseTooBig},
		{"binary", binary, `{"type":"ping"}`, proto.CloseUnsupported},
		{"deeply nested", text, `{"type":"ping","channels":` + nested(8000) + `}`, proto.CloseInvalidPayload},
		{"nested a little too deep", text, `{"type":"ping","token":` + nested(proto.MaxDepth) + `}`,
			proto.CloseInvalidPayload},
		{"not UTF-8", text, "{\"type\":\"subscribe\",\"channel\":\"\xff\"}", proto.CloseInvalidPayload},
		{"half a surrogate", text, `{"type":"\ud800"}`, proto.CloseInvalidPayload},
		{"duplicate keys", text, `{"type":"subscribe","channel":"a","channel":"b"}`, proto.CloseInvalidPayload},
		{"duplicate keys, escaped", text, `{"type":"subscribe","channel":"a","chann\u0065l":"b"}`,
			proto.CloseInvalidPayload},
		{"TYPE", text, `{"TYPE":"ping"}`, proto.CloseInvalidPayload},
		{"101 channels", text, `{"type":"subscribe","channels":` + jsonOf(make([]string, 101)) + `}`,
			proto.CloseInvalidPayload},
		{"two values", text, `{"type":"ping"}{"type":"ping"}`, proto.CloseInvalidPayload},
		{"a number as channel", text, `{"type":"subscribe","channel":1}`, proto.CloseInvalidPayload},
		{"an empty frame", text, ``, proto.CloseInvalidPayload},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, _ := g.connect("")
			cl.t = t
			_ = cl.ws.WriteMessage(c.kind, []byte(c.frame)) // the gateway may hang up in the middle of it
			if code, _ := cl.closed(); code != c.want {
				t.Errorf("got %d, want %d", code, c.want)
			}
		})
	}
	t.Run("unmasked", func(t *testing.T) {
		cl, _ := g.connect("")
		if _, err := cl.ws.NetConn().Write([]byte("\x81\x0f" + `{"type":"ping"}`)); err != nil {
			t.Fatal(err)
		}
		if code, _ := cl.closed(); code != proto.CloseProtocolError {
			t.Errorf("got %d, want %d", code, proto.CloseProtocolError)
		}
	})
	for name, frame := range map[string]string{
		"a flood of pings": "\x89\x80\x00\x00\x00\x00", "of pongs": "\x8a\x80\x00\x00\x00\x00",
		"of empty fragments": "\x00\x80\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			cl, _ := g.connect("")
			flood := strings.Repeat(frame, 4*maxSmallFrames) // more than in two seconds
			if frame[0] == 0 {
				flood = "\x01\x80\x00\x00\x00\x00" + flood
			}
			_, _ = io.WriteString(cl.ws.NetConn(), flood) // the gateway may hang up in the middle of it
			if code, _ := cl.closed(); code != proto.CloseTooManyFrames {
				t.Errorf("got %d, want %d", code, proto.CloseTooManyFrames)
			}
		})
	}
	t.Run("a flood", func(t *testing.T) {
		cl, _ := g.connect("")
		for range 10 * maxFrames {
			if cl.ws.WriteMessage(text, []byte(`{"type":"ping"}`)) != nil {
				break
			}
		}
		code, last := cl.closed()
		if code != proto.CloseTooManyFrames || last.Code != "too-many-frames" {
			t.Errorf("got %d after %s", code, last.raw)
		}
	})
}

// What strangers put into the URL.
func TestHostileURLs(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens)
	many := make([]string, proto.MaxChannels+1)
	for i := range many {
		many[i] = fmt.Sprintf("public.%d", i)
	}
	claims := jwt.MapClaims{"sub": "u", "exp": time.Now().Add(time.Hour).Unix(), "channels": []string{">"}}
	without := func(claim string) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "u", "exp": time.Now().Add(time.Hour).Unix(), "channels": []string{">"}}
		delete(c, claim)
		return c
	}
	good := signed(t, jwt.SigningMethodHS256, []byte(jwtSecret), claims)
	swapped := strings.Split(good, ".")
	swapped[1] = base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"admin","exp":9999999999,"channels":[">"]}`))
	for _, c := range []struct {
		name, query string
		want        proto.CloseCode
	}{
		{"100 channels", channels(many[:100]...), 0},
		{"101 channels", channels(many...), proto.CloseBadRequest},
		{"a channel of 256 bytes", channels(strings.Repeat("x", 256)), proto.CloseBadRequest},
		{"a NATS subject in disguise", channels("public.a\r\nPUB x 1"), proto.CloseBadRequest},
		{"since of a kilobyte", "since=" + strings.Repeat("9", 1024), proto.CloseBadRequest},
		{"since beyond all numbers", "since=a-99999999999999999999", proto.CloseBadRequest},
		{"the largest since", "since=" + b.epoch + "-18446744073709551615", 0}, // with a gap
		{"token: forged", "token=" + signed(t, jwt.SigningMethodHS256, []byte("another secret of mine"), claims),
			proto.CloseTokenInvalid},
		{"token: claims exchanged", "token=" + strings.Join(swapped, "."), proto.CloseTokenInvalid},
		{"token: alg none", "token=" + signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims),
			proto.CloseTokenInvalid},
		{"token: alg None, by hand", "token=" + byHand(`{"alg":"None"}`), proto.CloseTokenInvalid},
		{"token: HS512", "token=" + signed(t, jwt.SigningMethodHS512, []byte(jwtSecret), claims),
			proto.CloseTokenInvalid},
		{"token: without exp", "token=" + signed(t, jwt.SigningMethodHS256, []byte(jwtSecret), without("exp")),
			proto.CloseTokenInvalid},
		{"token: without sub", "token=" + signed(t, jwt.SigningMethodHS256, []byte(jwtSecret), without("sub")),
			proto.CloseTokenInvalid},
		{"token: without channels", "token=" + signed(t, jwt.SigningMethodHS256, []byte(jwtSecret),
			without("channels")),
			proto.CloseTokenInvalid},
		{"token: expired", "token=" + token(t, "u", -time.Hour, ">"), proto.CloseTokenExpired},
		{"token: huge", "token=" + strings.Repeat("x", 9000), proto.CloseTokenInvalid},
		{"token: good", "channel=secret&token=" + good, 0},
		{"broken escapes", "channel=%zz", proto.CloseBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := g.dial(c.query)
			cl.t = t
			if c.want == 0 {
				cl.want(proto.FrameWelcome)
			} else if code, _ := cl.closed(); code != c.want {
				t.Errorf("got %d, want %d", code, c.want)
			}
		})
	}
}

// byHand makes a token with this header that is otherwise right.
func byHand(header string) string {
	enc := base64.RawURLEncoding.EncodeToString
	body := enc([]byte(header)) + "." + enc([]byte(`{"sub":"u","exp":9999999999,"channels":[">"]}`))
	mac := hmac.New(sha256.New, []byte(jwtSecret))
	_, _ = io.WriteString(mac, body)
	return body + "." + enc(mac.Sum(nil))
}

// What is no handshake gets an HTTP answer that says so.
func TestHostileHandshakes(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	head := "GET /ws HTTP/1.1\r\nHost: " + g.Addr().String() + "\r\n"
	upgrade := head + "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	for _, c := range []struct {
		name, request string
		status        int
		problem       *proto.Problem // nil: net/http's own answer
	}{
		{"a page that looks", head + "\r\n", 426, proto.ProblemUpgrade},
		{"no key", upgrade + "Sec-WebSocket-Version: 13\r\n\r\n", 426, proto.ProblemUpgrade},
		{"a short key", upgrade + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n", 426,
			proto.ProblemUpgrade},
		{"two versions", upgrade + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: " +
			"dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 426, proto.ProblemUpgrade},
		{"the version twice",
			upgrade + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
				"dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 426, proto.ProblemUpgrade},
		{"an old version", upgrade + "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
			426, proto.ProblemUpgrade},
		{"h2c by upgrade", head + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: " +
			"AAMAAABkAAQAAP__\r\n\r\n", 426, proto.ProblemUpgrade},
		{"POST", "POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, proto.ProblemMethod},
		{"another origin", upgrade + "Origin: https://evil.example\r\nSec-WebSocket-Version: " +
			"13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 403, proto.ProblemOrigin},
		{"a huge URL", "GET /ws?channel=" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431, nil},
		{"a huge header", head + "X: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431, nil},
		{"prior knowledge of h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405, proto.ProblemMethod},
		{"no HTTP", "hello\r\n\r\n", 400, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := net.Dial("tcp", g.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			_ = nc.SetDeadline(time.Now().Add(patience))
			go func() { _, _ = io.WriteString(nc, c.request) }() // ends with the connection
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Errorf("got %s, want %d", resp.Status, c.status)
			}
			if c.problem == nil {
				return
			}
			var p proto.Problem
			if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Type != c.problem.Type ||
				resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("got %+v, %v; want a problem of type %s", p, err, c.problem.Type)
			}
			if got, spoken := resp.Header.Get("Sec-WebSocket-Version"), strings.Contains(c.request, "Version: 13") &&
				strings.Count(c.request, "Version: ") == 1; spoken == (got == "13") && c.status == 426 {
				t.Errorf("got Sec-WebSocket-Version %q", got)
			}
			if c.status == 426 && resp.Header.Get("Upgrade") != "websocket" {
				t.Errorf("Upgrade: got %q", resp.Header.Get("Upgrade"))
			}
		})
	}
}

// A header that drips in is cut off, and costs nobody else anything.
func TestSlowHandshake(t *testing.T) {
	t.Parallel() // it waits for ten seconds
	b := newBroker(t)
	g := b.gateway()
	nc, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	begin := time.Now()
	if _, err := io.WriteString(nc, "GET /ws HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	c, _ := g.connect("")
	c.ids(b.id(b.publish("broadcast", "1")))
	drip := time.NewTicker(500 * time.Millisecond)
	defer drip.Stop()
	for range drip.C {
		_ = nc.SetReadDeadline(time.Now().Add(time.Millisecond))
		var timeout net.Error
		if _, err := nc.Read(make([]byte, 1)); err == nil || !errors.As(err, &timeout) || !timeout.Timeout() {
			break
		}
		if _, err := io.WriteString(nc, "X: y\r\n"); err != nil {
			break
		}
		if time.Since(begin) > patience {
			t.Fatal("a header may drip in for ever")
		}
	}
}

// One address cannot take all places, whatever it says about itself.
func TestFloodOfConnections(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.MaxPerIP = 10 })
	inside := 0
	for i := range 50 {
		c, _, err := g.try("", http.Header{"X-Forwarded-For": {fmt.Sprintf("192.0.2.%d", i)},
			"Forwarded": {"for=192.0.2.1"}, "X-Real-Ip": {"192.0.2.1"}})
		if err != nil {
			t.Fatal(err)
		}
		if f := c.next(); f.Type == proto.FrameWelcome {
			inside++
		} else if f.Code != proto.CloseTooManyConnections.String() {
			t.Errorf("got %s", f.raw)
		}
	}
	if inside != 10 {
		t.Errorf("%d connections were let in, want 10", inside)
	}
}

// Nothing that a client sends comes back to it as something else, and nothing
// secret stands in the log.
func TestNothingLeaks(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens)
	secret := token(t, "u", time.Hour, "private.>")
	c, _ := g.connect(channels("private.x") + "&token=" + url.QueryEscape(secret))
	b.publish("private.x", `"the payload"`)
	c.want("")
	c.send(`{"type":"auth","token":%q}`, secret+"x")
	if f := c.want(proto.FrameError); strings.Contains(f.raw, secret) {
		t.Errorf("the token came back: %s", f.raw)
	}
	c.send(`{"type":"\u003cscript>"}`)
	if _, last := c.closed(); !strings.Contains(last.Detail, "<script>") { // as text, inside the JSON
		t.Errorf("got %s", last.raw)
	}
	for _, word := range []string{secret, jwtSecret, "the payload"} {
		if strings.Contains(g.log.String(), word) {
			t.Errorf("%q stands in the log", word)
		}
	}
}
