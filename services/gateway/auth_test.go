package gateway

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/herald-push/herald/proto"
)

const jwtSecret = "8f1kq02nvm4xbz7c8f1kq02nvm4xbz7d" // of the tests only

// token signs claims with HS256 and the gateway's secret.
func token(t testing.TB, subject string, lives time.Duration, channels ...string) string {
	t.Helper()
	return signed(t, jwt.SigningMethodHS256, []byte(jwtSecret), jwt.MapClaims{
		"sub": subject, "exp": time.Now().Add(lives).Unix(), "channels": channels,
	})
}

func signed(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = "k1"
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func withTokens(c *Config) {
	c.AnonymousChannels, c.JWTSecret = []string{"broadcast", "public.>"}, jwtSecret
}

// jwks makes a key pair and a JWKS file with the public one.
func jwks(t *testing.T) (private ed25519.PrivateKey, file string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "jwks.json")
	set := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"k1","x":%q}]}`,
		base64.RawURLEncoding.EncodeToString(public))
	if err := os.WriteFile(file, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	return private, file
}

func TestPermission(t *testing.T) {
	b := newBroker(t)
	private, file := jwks(t)
	g := b.gateway(withTokens, func(c *Config) { c.JWKS = file })
	_, forger, _ := ed25519.GenerateKey(rand.Reader)
	hour := jwt.MapClaims{"sub": "u1", "exp": time.Now().Add(time.Hour).Unix(), "channels": []string{"orders.*"}}
	for _, c := range []struct {
		name, query string
		want        proto.CloseCode // 0: welcome
	}{
		{"anonymous, broadcast", "", 0},
		{"anonymous, public", "channel=public.news&channel=public.%3E", 0},
		{"anonymous, another", "channel=orders.eu", proto.CloseForbidden},
		{"anonymous, one of two", "channel=public.a&channel=orders.eu", proto.CloseForbidden},
		{"anonymous, all", "channel=%3E", proto.CloseForbidden},
		{"HS256", "channel=orders.eu&token=" + token(t, "u1", time.Hour, "orders.*"), 0},
		{"HS256, the pattern itself", "channel=orders.*&token=" + token(t, "u1", time.Hour, "orders.*"), 0},
		{"HS256, a wider pattern", "channel=orders.%3E&token=" + token(t, "u1", time.Hour, "orders.*"),
			proto.CloseForbidden},
		{"HS256, public too", "channel=public.x&token=" + token(t, "u1", time.Hour, "orders.*"), 0},
		{"EdDSA", "channel=orders.eu&token=" + signed(t, jwt.SigningMethodEdDSA, private, hour), 0},
		{"EdDSA, forged", "channel=orders.eu&token=" + signed(t, jwt.SigningMethodEdDSA, forger, hour),
			proto.CloseTokenInvalid},
		{"expired", "channel=orders.eu&token=" + token(t, "u1", -time.Minute, "orders.*"), proto.CloseTokenExpired},
		{"expired, for a public channel", "token=" + token(t, "u1", -time.Minute, "orders.*"), proto.CloseTokenExpired},
		{"no token at all", "token=hello", proto.CloseTokenInvalid},
		{"bad channel", "channel=a..b", proto.CloseBadRequest},
		{"bad since", "since=yesterday", proto.CloseBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := g.dial(c.query)
			if c.want == 0 {
				cl.want(proto.FrameWelcome)
				return
			}
			code, last := cl.closed()
			if code != c.want || last.Code != code.String() || last.Detail == "" {
				t.Errorf("got %d after %s, want %d", code, last.raw, c.want)
			}
		})
	}
	t.Run("in a header", func(t *testing.T) {
		bearer := "Bearer " + token(t, "u1", time.Hour, "orders.*")
		c, _, err := g.try("channel=orders.eu", http.Header{"Authorization": {bearer}})
		if err != nil {
			t.Fatal(err)
		}
		c.want(proto.FrameWelcome)
	})
	for _, line := range strings.Split(g.log.String(), "\n") {
		if strings.Contains(line, "eyJ") {
			t.Fatalf("a token stands in the log: %s", line)
		}
	}
}

// A fresh token widens or narrows what a client may follow.
func TestReauthentication(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens)
	c, _ := g.connect(channels("orders.eu", "broadcast") + "&token=" + token(t, "u1", time.Hour, "orders.*"))
	auth := func(token string) frame {
		t.Helper()
		c.send(`{"type":"auth","token":%q}`, token)
		return c.next()
	}
	for name, refused := range map[string]string{
		"another subject": token(t, "u2", time.Hour, "orders.*"),
		"expired":         token(t, "u1", -time.Minute, "orders.*"),
		"nonsense":        "nonsense",
	} {
		if f := auth(refused); f.Type != proto.FrameError || f.Code != proto.ErrorBadToken {
			t.Errorf("%s: got %s", name, f.raw)
		}
	}
	c.send(`{"type":"subscribe","channel":"stock.x"}`)
	if f := c.next(); f.Code != proto.ErrorForbidden || f.Detail != `your token does not cover "stock.x"` {
		t.Errorf("got %s", f.raw)
	}
	if f := auth(token(t, "u1", time.Hour, "orders.*", "stock.*")); f.Type != proto.FrameAuthenticated ||
		f.Subject != "u1" || f.Expires == "" {
		t.Errorf("got %s", f.raw)
	}
	c.send(`{"type":"subscribe","channel":"stock.x"}`)
	c.want(proto.FrameSubscribed)
	if f := auth(token(t, "u1", time.Hour, "stock.>")); f.Type != proto.FrameAuthenticated {
		t.Errorf("got %s", f.raw)
	}
	if f := c.want(proto.FrameUnsubscribed); f.raw != `{"type":"unsubscribed","channel":"orders.eu",`+
		`"reason":"forbidden"}` {
		t.Errorf("got %s", f.raw)
	}
	b.publish("orders.eu", "1")
	c.ids(b.id(b.publish("stock.x", "2")), b.id(b.publish("broadcast", "3")))
}

// Who came without a token may show one later.
func TestAnonymousAuthenticates(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(withTokens)
	c, _ := g.connect("")
	c.send(`{"type":"auth","token":%q}`, token(t, "u1", time.Hour, "orders.*"))
	c.want(proto.FrameAuthenticated)
	c.send(`{"type":"subscribe","channel":"orders.eu"}`)
	c.want(proto.FrameSubscribed)
}

// The connection ends with the token, unless a newer one came.
func TestTokenExpires(t *testing.T) {
	t.Parallel() // it waits more than it works
	b := newBroker(t)
	g := b.gateway(withTokens)
	const lives = 10 * time.Second // a busy machine may stop for seconds
	lapses, _ := g.connect("token=" + token(t, "u1", lives, "a"))
	renews, _ := g.connect("token=" + token(t, "u1", lives, "a"))
	renews.send(`{"type":"auth","token":%q}`, token(t, "u1", time.Hour, "a"))
	renews.want(proto.FrameAuthenticated)
	if code, _ := lapses.closed(); code != proto.CloseTokenExpired {
		t.Errorf("got %d, want %d", code, proto.CloseTokenExpired)
	}
	renews.send(`{"type":"ping"}`)
	renews.want(proto.FramePong)
}
