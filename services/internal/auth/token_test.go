package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/herald-push/herald/services/internal/auth"
)

const jwtSecret = "a5f0c3d98e7b6142a5f0c3d98e7b6142"

var quiet = slog.New(slog.DiscardHandler)

// signer is a private key with its place in a JWKS.
type signer struct {
	kid, alg string
	key      crypto.Signer
	method   jwt.SigningMethod
}

// signers makes one key of each kind that PROTOCOL.md names.
var signers = sync.OnceValue(func() []signer {
	must := func(key crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return key
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, ecErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, edErr := ed25519.GenerateKey(rand.Reader)
	return []signer{
		{"rsa", "RS256", must(rsaKey, err), jwt.SigningMethodRS256},
		{"ec", "ES256", must(ecKey, ecErr), jwt.SigningMethodES256},
		{"ed", "EdDSA", must(edKey, edErr), jwt.SigningMethodEdDSA},
	}
})

// keySet is the JWKS of the signers' public keys.
func keySet(t testing.TB, of ...signer) []byte {
	t.Helper()
	store := jwkset.NewMemoryStorage()
	for _, s := range of {
		jwk, err := jwkset.NewJWKFromKey(s.key.Public(),
			jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: s.kid, ALG: jwkset.ALG(s.alg),
				USE: jwkset.UseSig}})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.KeyWrite(t.Context(), jwk); err != nil {
			t.Fatal(err)
		}
	}
	b, err := store.JSONPublic(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func jwksFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// verifier checks tokens until the test ends.
func verifier(t testing.TB, cfg auth.VerifierConfig) *auth.Verifier {
	t.Helper()
	return logged(t, cfg, quiet)
}

func logged(t testing.TB, cfg auth.VerifierConfig, log *slog.Logger) *auth.Verifier {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v, err := auth.NewVerifier(ctx, cfg, log)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { v.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return v
}

// good are claims that PROTOCOL.md asks for, and nothing else.
func good() jwt.MapClaims {
	return jwt.MapClaims{"sub": "user-4711", "exp": time.Now().Add(time.Hour).Unix(),
		"channels": []string{"user.4711.>", "orders.*"}}
}

// with returns good claims with some of them changed; nil takes one away.
func with(changes map[string]any) jwt.MapClaims {
	c := good()
	for k, v := range changes {
		c[k] = v
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

func (s signer) sign(t testing.TB, c jwt.Claims) string {
	t.Helper()
	token := jwt.NewWithClaims(s.method, c)
	if s.kid != "" {
		token.Header["kid"] = s.kid
	}
	signed, err := token.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func hs256(t testing.TB, c jwt.Claims, secret []byte) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func checkGood(t *testing.T, v *auth.Verifier, token string) {
	t.Helper()
	p, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "user-4711" || !slices.Equal(p.Channels, []string{"user.4711.>", "orders.*"}) ||
		time.Until(p.Expires) < 59*time.Minute {
		t.Errorf("got %+v", p)
	}
}

// refused holds an error to its kind and its words.
func refused(t *testing.T, v *auth.Verifier, token string, kind error, text string) {
	t.Helper()
	p, err := v.Verify(token)
	if p != nil || !errors.Is(err, kind) {
		t.Errorf("got %+v, %v; want %v", p, err, kind)
		return
	}
	if err.Error() != text {
		t.Errorf("got %q, want %q", err, text)
	}
}

func TestTokensByAlgorithm(t *testing.T) {
	set := keySet(t, signers()...)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	file := jwksFile(t, set)
	for from, v := range map[string]*auth.Verifier{
		"file":              verifier(t, auth.VerifierConfig{JWKS: file}),
		"file URL":          verifier(t, auth.VerifierConfig{JWKS: "file://" + file}),
		"URL":               verifier(t, auth.VerifierConfig{JWKS: server.URL}),
		"file beside HS256": verifier(t, auth.VerifierConfig{JWKS: file, Secret: jwtSecret}),
	} {
		for _, s := range signers() {
			t.Run(from+" "+s.alg, func(t *testing.T) {
				checkGood(t, v, s.sign(t, good()))
				noKid := s
				noKid.kid = ""
				checkGood(t, v, noKid.sign(t, good())) // RFC 7515 does not ask for one
			})
		}
	}
	for name, v := range map[string]*auth.Verifier{
		"alone":       verifier(t, auth.VerifierConfig{Secret: jwtSecret}),
		"beside JWKS": verifier(t, auth.VerifierConfig{JWKS: file, Secret: jwtSecret}),
	} {
		t.Run("HS256 "+name, func(t *testing.T) { checkGood(t, v, hs256(t, good(), []byte(jwtSecret))) })
	}
}

const (
	notAccepted = "the token is not valid: its algorithm is not accepted here"
	wrong       = "the token is not valid: its signature is wrong, or its key is not known"
	malformed   = "the token is not valid: it is malformed"
)

func TestClaims(t *testing.T) {
	v := verifier(t, auth.VerifierConfig{Secret: jwtSecret})
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for _, c := range []struct {
		name   string
		claims jwt.MapClaims
		kind   error // nil: accepted
		text   string
	}{
		{"good", good(), nil, ""},
		{"expired", with(map[string]any{"exp": at(-time.Minute)}), auth.ErrExpired, "the token has expired"},
		{"expired within the leeway", with(map[string]any{"exp": at(-2 * time.Second)}), nil, ""},
		{"expired and not yet valid", with(map[string]any{"exp": at(-time.Minute), "nbf": at(time.Minute)}),
			auth.ErrExpired, "the token has expired"},
		{"not yet valid", with(map[string]any{"nbf": at(2 * time.Minute)}), auth.ErrEarly,
			"the token is not valid yet: its claim nbf is ahead of this server's clock by more than 1m0s; come back"},
		{"not yet valid, by a backend's clock", with(map[string]any{"nbf": at(50 * time.Second)}), nil, ""},
		{"issued in the future", with(map[string]any{"iat": at(time.Hour)}), nil, ""},
		{"iat is a text", with(map[string]any{"iat": "yesterday"}), nil, ""},
		{"nbf is a text", with(map[string]any{"nbf": "yesterday"}), auth.ErrToken,
			"the token is not valid: the claim nbf is a text; want a number of seconds since 1970"},
		{"claims that are not used",
			with(map[string]any{"aud": 7, "iss": []int{1}, "jti": nil, "iat": true, "scope": map[string]any{}}), nil,
			""},
		{"names in another case", with(map[string]any{"SUB": "admin", "Channels": []string{">"}, "Exp": 1}), nil, ""},
		{"sub in another case only", with(map[string]any{"sub": nil, "SUB": "admin"}), auth.ErrToken,
			"the token is not valid: the claim sub is missing"},
		{"issued before", with(map[string]any{"iat": at(-time.Minute), "nbf": at(-time.Minute)}), nil, ""},
		{"no exp", with(map[string]any{"exp": nil}), auth.ErrToken, "the token is not valid: the claim exp is missing"},
		{"exp is a text", with(map[string]any{"exp": "tomorrow"}), auth.ErrToken,
			"the token is not valid: the claim exp is a text; want a number of seconds since 1970"},
		{"exp after 2262", with(map[string]any{"exp": 9999999999}), nil, ""},
		{"exp after the year 9999", with(map[string]any{"exp": 999999999999999}), nil, ""},
		{"exp beyond all time", with(map[string]any{"exp": json.RawMessage("1e300")}), nil, ""},
		{"exp beyond all numbers", with(map[string]any{"exp": json.RawMessage("1e999")}), nil, ""},
		{"exp with a fraction", with(map[string]any{"exp": float64(at(time.Minute)) + 0.25}), nil, ""},
		{"exp before all time", with(map[string]any{"exp": json.RawMessage("-1e999")}), auth.ErrExpired,
			"the token has expired"},
		{"exp is zero", with(map[string]any{"exp": 0}), auth.ErrExpired, "the token has expired"},
		{"exp is null", with(map[string]any{"exp": json.RawMessage("null")}), auth.ErrToken,
			"the token is not valid: the claim exp is missing"},
		{"no sub", with(map[string]any{"sub": nil}), auth.ErrToken, "the token is not valid: the claim sub is missing"},
		{"empty sub", with(map[string]any{"sub": ""}), auth.ErrToken,
			"the token is not valid: the claim sub is missing"},
		{"no channels", with(map[string]any{"channels": nil}), auth.ErrToken,
			"the token is not valid: the claim channels is missing"},
		{"channels null", with(map[string]any{"channels": json.RawMessage("null")}), auth.ErrToken,
			"the token is not valid: the claim channels is missing"},
		{"sub is a number", with(map[string]any{"sub": 4711}), auth.ErrToken,
			"the token is not valid: the claim sub is a number; want a text"},
		{"channels is a text", with(map[string]any{"channels": "a"}), auth.ErrToken,
			"the token is not valid: the claim channels is a text; want an array of texts"},
		{"channels is an object", with(map[string]any{"channels": map[string]any{}}), auth.ErrToken,
			"the token is not valid: the claim channels is an object; want an array of texts"},
		{"a channel is null", with(map[string]any{"channels": []any{"a", nil}}), auth.ErrToken,
			"the token is not valid: the claim channels is an array of something else; want an array of texts"},
		{"bad pattern", with(map[string]any{"channels": []string{"ok", "a.>.b"}}), auth.ErrToken,
			`the token is not valid: claim channels: invalid channel: in "a.>.b" a wildcard must be a whole ` +
				`token, and > the last one`},
		{"empty pattern", with(map[string]any{"channels": []string{""}}), auth.ErrToken,
			"the token is not valid: claim channels: invalid channel: it is empty"},
		{"blank in a pattern", with(map[string]any{"channels": []string{"a b"}}), auth.ErrToken,
			"the token is not valid: claim channels: invalid channel: byte 0x20 at position 1; only printable " +
				"ASCII without spaces is allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := hs256(t, c.claims, []byte(jwtSecret))
			if c.kind == nil {
				checkAccepted(t, v, token)
				return
			}
			refused(t, v, token, c.kind, c.text)
		})
	}
	p, err := v.Verify(hs256(t, with(map[string]any{"channels": []string{}}), []byte(jwtSecret)))
	if err != nil || len(p.Channels) != 0 {
		t.Errorf("no channels at all: got %+v, %v", p, err)
	}
	if p.May("broadcast") {
		t.Error("no channels allow one")
	}
}

// What a token says of time is kept as far as times can be written.
func TestFarExpiry(t *testing.T) {
	v := verifier(t, auth.VerifierConfig{Secret: jwtSecret})
	for raw, want := range map[string]string{
		"9999999999": "2286-11-20T17:46:39Z", "253402300799": "9999-12-31T23:59:59Z", "1e15": "9999-12-31T23:59:59Z",
		"1e999": "9999-12-31T23:59:59Z",
	} {
		p, err := v.Verify(hs256(t, with(map[string]any{"exp": json.RawMessage(raw)}), []byte(jwtSecret)))
		if err != nil || p.Expires.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: got %+v, %v; want %s", raw, p, err, want)
		}
	}
	far := auth.Principal{Name: "u", Channels: []string{"a"}, Expires: time.Unix(9999999999, 0)}
	token, err := auth.Sign(auth.Signing{Secret: jwtSecret}, far)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := v.Verify(token); err != nil || !p.Expires.Equal(far.Expires) {
		t.Errorf("one of our own: got %+v, %v", p, err)
	}
}

func TestAudienceAndIssuer(t *testing.T) {
	v := verifier(t, auth.VerifierConfig{Secret: jwtSecret, Audience: []string{"herald", "push"},
		Issuer: []string{"https://id.example"}})
	for _, c := range []struct {
		name     string
		aud, iss any
		text     string // empty: accepted
	}{
		{"both", "herald", "https://id.example", ""},
		{"one of several", []string{"other", "push"}, "https://id.example", ""},
		{"another audience", "shop", "https://id.example", "its claim aud is not one that is accepted here"},
		{"an audience in another case", "Herald", "https://id.example",
			"its claim aud is not one that is accepted here"},
		{"no audience", nil, "https://id.example", "the claim aud is missing"},
		{"audience is a number", 7, "https://id.example", "the claim aud is a number; want a text or an " +
			"array of texts"},
		{"another issuer", "herald", "https://evil.example", "its claim iss is not one that is accepted here"},
		{"issuer with a slash", "herald", "https://id.example/", "its claim iss is not one that is accepted here"},
		{"no issuer", "herald", nil, "the claim iss is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := hs256(t, with(map[string]any{"aud": c.aud, "iss": c.iss}), []byte(jwtSecret))
			if c.text == "" {
				checkAccepted(t, v, token)
				return
			}
			refused(t, v, token, auth.ErrToken, "the token is not valid: "+c.text)
		})
	}
	token, err := auth.Sign(auth.Signing{Secret: jwtSecret, Audience: "push", Issuer: "https://id.example"},
		auth.Principal{Name: "u", Channels: []string{}, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	checkAccepted(t, v, token)
}

func checkAccepted(t *testing.T, v *auth.Verifier, token string) {
	t.Helper()
	if _, err := v.Verify(token); err != nil {
		t.Error(err)
	}
}

func TestOversizedToken(t *testing.T) {
	v := verifier(t, auth.VerifierConfig{Secret: jwtSecret})
	token := hs256(t, with(map[string]any{"pad": strings.Repeat("x", auth.MaxTokenBytes)}), []byte(jwtSecret))
	refused(t, v, token, auth.ErrToken, fmt.Sprintf("the token is not valid: it has %d bytes, at most 8192 are allowed",
		len(token)))
	for n := 6000; ; n-- { // the largest that fits
		token = hs256(t, with(map[string]any{"pad": strings.Repeat("x", n)}), []byte(jwtSecret))
		if len(token) <= auth.MaxTokenBytes {
			break
		}
	}
	checkAccepted(t, v, token)
}

func TestNoKeysMeansNoTokens(t *testing.T) {
	v := verifier(t, auth.VerifierConfig{})
	if v.Enabled() {
		t.Error("enabled")
	}
	refused(t, v, hs256(t, good(), []byte("")), auth.ErrToken,
		"the token is not valid: this server has no token keys (HERALD_JWT_SECRET or HERALD_JWKS)")
	if !verifier(t, auth.VerifierConfig{Secret: jwtSecret}).Enabled() {
		t.Error("not enabled")
	}
}

func TestErrorsShowNothingOfTheToken(t *testing.T) {
	v := verifier(t, auth.VerifierConfig{Secret: jwtSecret})
	token := hs256(t, with(map[string]any{"private": "salary"}), []byte("another-secret-0123456789"))
	_, err := v.Verify(token)
	if err == nil || strings.Contains(err.Error(), token[:20]) || strings.Contains(err.Error(), "salary") {
		t.Errorf("got %v", err)
	}
}
