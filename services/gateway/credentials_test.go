package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

const page1 = "https://app.example" // on the list of allowed origins

// ways in which a token may come.
func waysOf(token string) map[string]func(query url.Values, header http.Header) {
	return map[string]func(url.Values, http.Header){
		"URL":                     func(q url.Values, _ http.Header) { q.Set("token", token) },
		"header":                  func(_ url.Values, h http.Header) { h.Set("Authorization", "Bearer "+token) },
		"header, scheme in lower": func(_ url.Values, h http.Header) { h.Set("Authorization", "bearer "+token) },
		"header, scheme in capitals": func(_ url.Values, h http.Header) {
			h.Set("Authorization", "BEARER   "+
				token+" ")
		},
		"cookie": func(_ url.Values, h http.Header) { h.Set("Cookie", "a=b; session="+token) },
	}
}

func TestWaysOfATokenOverWebSocket(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens, func(c *Config) { c.TokenCookie, c.AllowedOrigins = "session", []string{page1} })
	good, bad := token(t, "u1", time.Hour, "orders.*"), token(t, "u1", time.Hour, "other")
	ways := waysOf(good)
	ways["subprotocol"] = func(_ url.Values, h http.Header) {
		h.Set("Sec-WebSocket-Protocol", "herald, herald.token."+good)
	}
	ways["the same in two ways"] = func(q url.Values, h http.Header) {
		q.Set("token", good)
		h.Set("Authorization", "Bearer "+good)
	}
	ways["URL before cookie"] = func(q url.Values, h http.Header) {
		q.Set("token", good)
		h.Set("Cookie", "session="+bad)
	}
	ways["beside a proxy's own credentials"] = func(q url.Values, h http.Header) {
		q.Set("token", good)
		h.Set("Authorization", "Basic dTpw")
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			query, header := url.Values{"channel": {"orders.eu"}}, http.Header{"Origin": {page1}}
			way(query, header)
			c, resp, err := g.try(query.Encode(), header)
			if err != nil {
				t.Fatal(err)
			}
			c.want(proto.FrameWelcome)
			want := ""
			if header.Get("Sec-WebSocket-Protocol") != "" {
				want = "herald"
			}
			if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != want {
				t.Errorf("subprotocol: got %q, want %q", got, want)
			}
		})
	}
	two, _, err := g.try("channel=orders.eu&token="+good, http.Header{"Authorization": {"Bearer " + bad}})
	if err != nil {
		t.Fatal(err)
	}
	if code, last := two.closed(); code != proto.CloseBadRequest ||
		!strings.Contains(last.Detail, "several different tokens") {
		t.Errorf("two tokens: got %v after %s", code, last.raw)
	}
	_, resp, err := g.try("", http.Header{"Sec-Websocket-Protocol": {"herald.token." + good}})
	if err == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a token as the only subprotocol: got %v, %v; want 400", resp, err)
	}
	if strings.Contains(g.log.String(), good[:20]) {
		t.Errorf("a token stands in the log:\n%s", g.log)
	}
}

// A Socket.IO client says its token in CONNECT, which replaces what came with the request.
func TestTokenOfSocketIOReplaces(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(withTokens, func(c *Config) { c.TokenCookie = "session" })
	good, bad := token(t, "u1", time.Hour, "orders.*"), token(t, "u2", time.Hour, "other")
	for name, way := range waysOf(bad) {
		query, header := url.Values{}, asBrowser.Clone()
		way(query, header)
		s := g.session(4, "&"+query.Encode(), header)
		s.send(`40{"token":"` + good + `","channels":["orders.eu"]}`)
		if s.connected() == "" {
			t.Errorf("%s: no pid", name)
		}
	}
}

// A cookie comes by itself, so it counts only for pages that may use it.
func TestTokenCookieAndOrigins(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens, func(c *Config) { c.TokenCookie, c.AllowedOrigins = "session", []string{page1, "null"} })
	good := token(t, "u1", time.Hour, "orders.*")
	for _, c := range []struct {
		name   string
		header http.Header
		want   proto.CloseCode // 0: welcome
	}{
		{"no browser", http.Header{}, 0},
		{"the same host", http.Header{"Origin": {"http://" + g.Addr().String()}}, 0},
		{"on the list", http.Header{"Origin": {page1}}, 0},
		{"null", http.Header{"Origin": {"null"}}, proto.CloseForbidden},
		{"embedded in another site", http.Header{"Sec-Fetch-Site": {"cross-site"}}, proto.CloseForbidden},
		{"twice, different", http.Header{"Cookie": {"session=other"}}, proto.CloseBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.header.Set("Cookie", strings.TrimPrefix(c.header.Get("Cookie")+"; session="+good, "; "))
			cl, _, err := g.try("channel=orders.eu", c.header)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == 0 {
				cl.want(proto.FrameWelcome)
			} else if code, last := cl.closed(); code != c.want {
				t.Errorf("got %v after %s, want %v", code, last.raw, c.want)
			}
		})
	}
	if _, resp, err := g.try("channel=orders.eu", http.Header{"Cookie": {"session=" + good},
		"Origin": {"https://evil.example"}}); err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("another origin: got %v, %v; want 403", resp, err)
	}
	off := b.gateway(withTokens)
	cl, _, err := off.try("channel=orders.eu", http.Header{"Cookie": {"session=" + good}})
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := cl.closed(); code != proto.CloseForbidden {
		t.Errorf("without the setting: got %v, want %v", code, proto.CloseForbidden)
	}
	for want, change := range map[string]func(*Config){
		`token-cookie: "a b" is no name of a cookie`: func(c *Config) { c.TokenCookie = "a b" },
		"token-cookie with allowed-origins *": func(c *Config) {
			c.TokenCookie, c.AllowedOrigins = "s",
				[]string{"*"}
		},
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestWaysOfATokenOverEvents(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens, func(c *Config) { c.TokenCookie, c.AllowedOrigins = "session", []string{page1} })
	for name, way := range waysOf(token(t, "u1", time.Hour, "orders.*")) {
		t.Run(name, func(t *testing.T) {
			query, header := url.Values{"channel": {"orders.eu"}}, http.Header{"Origin": {page1}}
			way(query, header)
			var pairs []string
			for k := range header {
				pairs = append(pairs, k, header.Get(k))
			}
			g.events(query.Encode(), pairs...).want(proto.FrameWelcome)
		})
	}
}

// What passes by itself is not told as the end.
func TestTokenThatIsNotValidYet(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens)
	at := func(nbf, iat time.Duration) string {
		now := time.Now()
		return signed(t, jwt.SigningMethodHS256, []byte(jwtSecret), jwt.MapClaims{
			"sub": "u", "exp": now.Add(2 * time.Hour).Unix(), "channels": []string{"a"}, "nbf": now.Add(nbf).Unix(),
			"iat": now.Add(iat).Unix(),
		})
	}
	g.connect("channel=a&token=" + at(12*time.Second, 12*time.Second)) // a backend's clock
	g.connect("channel=a&token=" + at(0, time.Hour))
	code, last := g.dial("channel=a&token=" + at(time.Hour, 0)).closed()
	if code != proto.CloseTokenEarly || !code.ComeBack() || last.Code != "token-early" {
		t.Errorf("got %v after %s", code, last.raw)
	}
	e := g.events("channel=a&token=" + at(time.Hour, 0)) // 200: an EventSource comes back
	if f := e.want("problem"); f.Code != "token-early" {
		t.Errorf("got %s", f.raw)
	}
	if code := e.closed(); code != proto.CloseTokenEarly || e.retry < 5*time.Second || e.retry > time.Minute {
		t.Errorf("got %v, to come back after %s", code, e.retry)
	}
}

// Tokens that end after 2262, where nanoseconds in 64 bits do.
func TestTokenThatEndsFarAhead(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens)
	far := func(exp int64) string {
		return signed(t, jwt.SigningMethodHS256, []byte(jwtSecret), jwt.MapClaims{"sub": "u", "exp": exp,
			"channels": []string{"a"}})
	}
	for _, exp := range []int64{9999999999, 253402300799, 99999999999999} {
		c, _ := g.connect("channel=a&token=" + far(exp))
		c.send(`{"type":"auth","token":%q}`, far(exp))
		if f := c.want(proto.FrameAuthenticated); f.Expires == "" {
			t.Errorf("got %s", f.raw)
		}
		time.Sleep(20 * time.Millisecond) // it was closed at once
		c.send(`{"type":"ping"}`)
		c.want(proto.FramePong)
	}
}

// What is not understood in a URL is refused, by both transports.
func TestParameters(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens)
	for query, want := range map[string]string{
		"channel=a;channel=b":       "semicolon",
		"channel=broadcast;":        "semicolon",
		"channel=100%":              "%25",
		"token=%zz":                 "%25",
		"channel=%zz&channel=a":     "%25",
		"channels=broadcast":        `"channels" is not a parameter`,
		"channel[]=broadcast":       `"channel[]" is not a parameter`,
		"channel%5B%5D=broadcast":   `"channel[]" is not a parameter`,
		"chanel=broadcast":          `"chanel" is not a parameter`,
		"Channel=broadcast":         `"Channel" is not a parameter`,
		"channel=broadcast&x":       `"x" is not a parameter`,
		"since=all&since=last":      "since is given 2 times",
		"lastEventId=a&lastEventId": "lastEventId is given 2 times",
		"last-event-id=a":           `"last-event-id" is not a parameter`,
	} {
		code, last := g.dial(query).closed()
		if code != proto.CloseBadRequest || !strings.Contains(last.Detail, want) ||
			!strings.Contains(last.Detail, "channel, subscribe, since, lastEventId, token") {
			t.Errorf("/ws?%s: got %v after %s, want %q and what is known", query, code, last.raw, want)
		}
		e := g.ask(http.DefaultClient, "http://"+g.Addr().String(), query)
		var p proto.Problem
		if err := json.NewDecoder(e.resp.Body).Decode(&p); err != nil || p.Type != proto.ProblemInvalidParameter.Type ||
			!strings.Contains(p.Detail, want) {
			t.Errorf("/sse?%s: got %s %+v, want %q", query, e.resp.Status, p, want)
		}
	}
	for _, query := range []string{"", "channel=", "channel=&since=", "&&channel=broadcast&", "token=",
		"channel=public.a%3Bb", "channel=public.%25"} {
		g.connect(query)
	}
}

// Polyfills of EventSource say where they got to in a parameter.
func TestLastEventIDAsAParameter(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	b.publishMany(5, "a")
	for _, query := range []string{"channel=a&lastEventId=" + b.id(3), "channel=a&since=" + b.id(1) + "&lastEventId=" +
		b.id(3), "channel=a&since=" + b.id(3) + "&lastEventId="} {
		e := g.events(query)
		if f := e.want(proto.FrameWelcome); !f.Resumed {
			t.Errorf("%s: got %s", query, f.raw)
		}
		e.ids(b.id(4), b.id(5))
		c, _ := g.connect(query)
		c.ids(b.id(4), b.id(5))
	}
	if code, _ := g.dial("lastEventId=yesterday").closed(); code != proto.CloseBadRequest {
		t.Errorf("got %v, want %v", code, proto.CloseBadRequest)
	}
}

// RFC 6455 section 4.4: who asks for another version is told which one there is.
func TestWrongVersion(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	req, err := http.NewRequest(http.MethodGet, "http://"+g.Addr().String()+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"8"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired || resp.Header.Get("Sec-WebSocket-Version") != "13" {
		t.Errorf("got %s %v", resp.Status, resp.Header)
	}
}

// An identity provider that is away keeps nobody waiting but those who need it.
func TestKeysThatAreAwayAtStart(t *testing.T) {
	private, file := jwks(t)
	set, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var there atomic.Bool
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !there.Load() {
			http.Error(w, "restarting", http.StatusBadGateway)
			return
		}
		_, _ = w.Write(set)
	}))
	defer provider.Close()
	b := newBroker(t)
	b.shelf()
	g := b.gateway(withTokens, func(c *Config) { c.JWKS = provider.URL })
	g.becomesReady()
	resp, body := g.call(http.MethodGet, "/readyz", nil)
	if resp.StatusCode != http.StatusOK || strings.Contains(body, "502") { // what is wrong is for operators
		t.Errorf("got %s %s", resp.Status, body)
	}
	warning := g.ops.Warnings(t.Context())
	if warning == nil || !strings.Contains(warning.Error(), "tokens: tokens cannot be checked") ||
		!strings.Contains(warning.Error(), "502") {
		t.Errorf("got %v", warning)
	}
	g.connect("") // needs no token
	g.connect("channel=a&token=" + token(t, "u", time.Hour, "a"))
	query := "channel=a&token=" + signed(t, jwt.SigningMethodEdDSA, private,
		jwt.MapClaims{"sub": "u", "exp": time.Now().Add(time.Hour).Unix(), "channels": []string{"a"}})
	if code, last := g.dial(query).closed(); code != proto.CloseOverload ||
		!strings.Contains(last.Detail, "cannot be fetched now") {
		t.Errorf("got %v after %s", code, last.raw)
	}
	if code := g.events(query).closed(); code != proto.CloseOverload {
		t.Errorf("got %v, want %v", code, proto.CloseOverload)
	}
	there.Store(true)
	natstest.Eventually(t, 4*patience, "the keys are there", func() bool {
		return g.ops.Warnings(t.Context()) == nil
	})
	g.connect(query)
}
