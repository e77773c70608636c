package auth_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
		jwk, err := jwkset.NewJWKFromKey(s.key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: s.kid, ALG: jwkset.ALG(s.alg), USE: jwkset.UseSig}})
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
	v, err := auth.NewVerifier(t.Context(), cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// good are claims that PROTOCOL.md asks for, and nothing else.
func good() jwt.MapClaims {
	return jwt.MapClaims{"sub": "user-4711", "exp": time.Now().Add(time.Hour).Unix(), "channels": []string{"user.4711.>", "orders.*"}}
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

// raw puts a token together without any library's opinion.
func raw(header, claims string, signature []byte) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc([]byte(claims)) + "." + enc(signature)
}

func checkGood(t *testing.T, v *auth.Verifier, token string) {
	t.Helper()
	p, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "user-4711" || !slices.Equal(p.Channels, []string{"user.4711.>", "orders.*"}) || time.Until(p.Expires) < 59*time.Minute {
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
	wrong       = "the token is not valid: its signature or a claim is wrong"
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
		{"expired and not yet valid", with(map[string]any{"exp": at(-time.Minute), "nbf": at(time.Minute)}), auth.ErrExpired, "the token has expired"},
		{"not yet valid", with(map[string]any{"nbf": at(time.Minute)}), auth.ErrToken, "the token is not valid: it is not valid yet"},
		{"not yet valid, within the leeway", with(map[string]any{"nbf": at(2 * time.Second)}), nil, ""},
		{"issued in the future", with(map[string]any{"iat": at(time.Minute)}), auth.ErrToken, "the token is not valid: it is not valid yet"},
		{"issued before", with(map[string]any{"iat": at(-time.Minute), "nbf": at(-time.Minute)}), nil, ""},
		{"no exp", with(map[string]any{"exp": nil}), auth.ErrToken, "the token is not valid: the claim exp is missing"},
		{"exp is a text", with(map[string]any{"exp": "tomorrow"}), auth.ErrToken, malformed},
		{"exp beyond all time", with(map[string]any{"exp": json.RawMessage("1e300")}), auth.ErrExpired, "the token has expired"},
		{"no sub", with(map[string]any{"sub": nil}), auth.ErrToken, "the token is not valid: the claim sub is missing"},
		{"empty sub", with(map[string]any{"sub": ""}), auth.ErrToken, "the token is not valid: the claim sub is missing"},
		{"no channels", with(map[string]any{"channels": nil}), auth.ErrToken, "the token is not valid: the claim channels is missing"},
		{"channels null", with(map[string]any{"channels": json.RawMessage("null")}), auth.ErrToken, "the token is not valid: the claim channels is missing"},
		{"channels is a text", with(map[string]any{"channels": "a"}), auth.ErrToken, malformed},
		{"bad pattern", with(map[string]any{"channels": []string{"ok", "a.>.b"}}), auth.ErrToken, `the token is not valid: claim channels: invalid channel: in "a.>.b" a wildcard must be a whole token, and > the last one`},
		{"empty pattern", with(map[string]any{"channels": []string{""}}), auth.ErrToken, "the token is not valid: claim channels: invalid channel: it is empty"},
		{"blank in a pattern", with(map[string]any{"channels": []string{"a b"}}), auth.ErrToken, "the token is not valid: claim channels: invalid channel: byte 0x20 at position 1; only printable ASCII without spaces is allowed"},
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

func checkAccepted(t *testing.T, v *auth.Verifier, token string) {
	t.Helper()
	if _, err := v.Verify(token); err != nil {
		t.Error(err)
	}
}

// RFC 8725: what attackers try with the header.
func TestForgedTokens(t *testing.T) {
	set := signers()
	public, err := x509.MarshalPKIXPublicKey(set[0].key.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	file := jwksFile(t, keySet(t, set...))
	onlyPublic := verifier(t, auth.VerifierConfig{JWKS: file})
	onlySecret := verifier(t, auth.VerifierConfig{Secret: jwtSecret})
	both := verifier(t, auth.VerifierConfig{JWKS: file, Secret: jwtSecret})
	claims := `{"sub":"user-4711","exp":9999999999,"channels":[">"]}`
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := set[0].sign(t, good())
	parts := strings.Split(signed, ".")
	kid := func(token *jwt.Token, kid any) *jwt.Token { token.Header["kid"] = kid; return token }
	mustSign := func(token *jwt.Token, key any) string {
		t.Helper()
		s, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		name  string
		v     *auth.Verifier
		token string
		text  string
	}{
		{"public key in PEM as HMAC secret", onlyPublic, hs256(t, good(), publicPEM), notAccepted},
		{"public key in PEM as HMAC secret, beside a secret", both, hs256(t, good(), publicPEM), wrong},
		{"public key in DER as HMAC secret", both, hs256(t, good(), public), wrong},
		{"modulus as HMAC secret", both, hs256(t, good(), set[0].key.Public().(*rsa.PublicKey).N.Bytes()), wrong},
		{"HS256 naming a public key", both, mustSign(kid(jwt.NewWithClaims(jwt.SigningMethodHS256, good()), "rsa"), publicPEM), wrong},
		{"HS384 with the right secret", both, mustSign(jwt.NewWithClaims(jwt.SigningMethodHS384, good()), []byte(jwtSecret)), wrong},
		{"HS512 with the right secret", onlySecret, mustSign(jwt.NewWithClaims(jwt.SigningMethodHS512, good()), []byte(jwtSecret)), notAccepted},
		{"none", onlySecret, raw(`{"alg":"none"}`, claims, nil), notAccepted},
		{"none, with public keys", both, raw(`{"alg":"none"}`, claims, nil), wrong},
		{"none, signed by the library", both, mustSign(jwt.NewWithClaims(jwt.SigningMethodNone, good()), jwt.UnsafeAllowNoneSignatureType), wrong},
		{"None", both, raw(`{"alg":"None"}`, claims, nil), malformed},
		{"no algorithm", both, raw(`{"typ":"JWT"}`, claims, nil), malformed},
		{"algorithm is a number", both, raw(`{"alg":256}`, claims, nil), malformed},
		{"algorithm is null", both, raw(`{"alg":null}`, claims, nil), malformed},
		{"hs256", both, raw(`{"alg":"hs256"}`, claims, nil), malformed},
		{"empty secret", onlySecret, hs256(t, good(), []byte{}), wrong},
		{"another secret", onlySecret, hs256(t, good(), []byte(jwtSecret+"x")), wrong},
		{"another RSA key", onlyPublic, signer{"rsa", "RS256", stranger, jwt.SigningMethodRS256}.sign(t, good()), wrong},
		{"another RSA key without kid", onlyPublic, signer{"", "RS256", stranger, jwt.SigningMethodRS256}.sign(t, good()), wrong},
		{"unknown kid", onlyPublic, signer{"other", "RS256", set[0].key, jwt.SigningMethodRS256}.sign(t, good()), wrong},
		{"kid is a number", onlyPublic, mustSign(kid(jwt.NewWithClaims(jwt.SigningMethodRS256, good()), 7), set[0].key), wrong},
		{"kid is a path", onlyPublic, signer{"../../etc/passwd", "RS256", set[0].key, jwt.SigningMethodRS256}.sign(t, good()), wrong},
		{"kid of another key", onlyPublic, signer{"ec", "RS256", set[0].key, jwt.SigningMethodRS256}.sign(t, good()), wrong},
		{"RS512 with the right key", onlyPublic, signer{"rsa", "RS512", set[0].key, jwt.SigningMethodRS512}.sign(t, good()), wrong},
		{"PS256 with the right key", onlyPublic, signer{"rsa", "PS256", set[0].key, jwt.SigningMethodPS256}.sign(t, good()), wrong},
		{"ES384", onlyPublic, signer{"ec", "ES384", large, jwt.SigningMethodES384}.sign(t, good()), wrong},
		{"key inside the header", onlyPublic, embedded(t, stranger), wrong},
		{"public key where only a secret is known", onlySecret, signed, notAccepted},
		{"other claims under the signature", onlyPublic, parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + parts[2], wrong},
		{"no signature", onlyPublic, parts[0] + "." + parts[1] + ".", wrong},
		{"two parts", both, parts[0] + "." + parts[1], malformed},
		{"four parts", both, signed + ".x", malformed},
		{"encrypted", both, signed + ".x.y", malformed},
		{"empty", both, "", malformed},
		{"dots", both, "..", malformed},
		{"padding", both, parts[0] + "==." + parts[1] + "." + parts[2], malformed},
		{"claims are null", both, raw(`{"alg":"HS256"}`, "null", nil), wrong},
		{"claims are an array", both, raw(`{"alg":"HS256"}`, "[]", nil), malformed},
		{"header is null", both, raw("null", claims, nil), malformed},
		{"line breaks", both, signed + "\r\n", malformed},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.v, c.token, auth.ErrToken, c.text) })
	}
}

// embedded is a token that brings its own key along (RFC 7515 section 4.1.3).
func embedded(t *testing.T, key *rsa.PrivateKey) string {
	t.Helper()
	var jwks struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(keySet(t, signer{"rsa", "RS256", key, nil}), &jwks); err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, good())
	token.Header["kid"], token.Header["jwk"] = "rsa", jwks.Keys[0]
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignedNullClaims(t *testing.T) {
	token := raw(`{"alg":"HS256"}`, "null", nil)
	text := token[:strings.LastIndexByte(token, '.')]
	signature, err := jwt.SigningMethodHS256.Sign(text, []byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, verifier(t, auth.VerifierConfig{Secret: jwtSecret}), text+"."+base64.RawURLEncoding.EncodeToString(signature),
		auth.ErrToken, "the token is not valid: the claim exp is missing")
}

func TestOversizedToken(t *testing.T) {
	v := verifier(t, auth.VerifierConfig{Secret: jwtSecret})
	token := hs256(t, with(map[string]any{"pad": strings.Repeat("x", auth.MaxTokenBytes)}), []byte(jwtSecret))
	refused(t, v, token, auth.ErrToken, fmt.Sprintf("the token is not valid: it has %d bytes, at most 8192 are allowed", len(token)))
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
	refused(t, v, hs256(t, good(), []byte("")), auth.ErrToken, "the token is not valid: this server has no token keys (HERALD_JWT_SECRET or HERALD_JWKS)")
	if !verifier(t, auth.VerifierConfig{Secret: jwtSecret}).Enabled() {
		t.Error("not enabled")
	}
}

func TestVerifierRefusesBadKeys(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	defer http.DefaultClient.CloseIdleConnections()
	answering := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	missing := filepath.Join(t.TempDir(), "missing.json")
	text, other, shared := jwksFile(t, []byte("-----BEGIN PUBLIC KEY-----")), jwksFile(t, []byte(`{"not":"keys"}`)), jwksFile(t, []byte(`{"keys":[{"kty":"oct","kid":"s","k":"c2VjcmV0"}]}`))
	broken := jwksFile(t, []byte(`{"keys":[{"kty":"RSA","kid":"r","n":"!","e":"AQAB"}]}`))
	for _, c := range []struct {
		name string
		cfg  auth.VerifierConfig
		want []string
	}{
		{"short secret", auth.VerifierConfig{Secret: "short"}, []string{"HERALD_JWT_SECRET has 5 characters"}},
		{"placeholder", auth.VerifierConfig{Secret: "changeme-changeme-changeme"}, []string{"HERALD_JWT_SECRET looks like a placeholder"}},
		{"missing file", auth.VerifierConfig{JWKS: missing}, []string{"HERALD_JWKS: open " + missing}},
		{"no JSON", auth.VerifierConfig{JWKS: text}, []string{"HERALD_JWKS: " + text}},
		{"another JSON", auth.VerifierConfig{JWKS: other}, []string{"HERALD_JWKS: " + other + " has no keys"}},
		{"shared secret", auth.VerifierConfig{JWKS: shared}, []string{"HERALD_JWKS: " + shared, `key "s" is a shared secret; a JWKS holds public keys`}},
		{"broken key", auth.VerifierConfig{JWKS: broken}, []string{"HERALD_JWKS: " + broken}},
		{"nobody answers", auth.VerifierConfig{JWKS: gone.URL}, []string{"HERALD_JWKS: ", gone.URL}},
		{"404", auth.VerifierConfig{JWKS: answering(404, "")}, []string{"HERALD_JWKS: ", "404"}},
		{"URL with another JSON", auth.VerifierConfig{JWKS: answering(200, "{}")}, []string{"HERALD_JWKS: ", "has no keys"}},
		{"URL with HTML", auth.VerifierConfig{JWKS: answering(200, "<html>")}, []string{"HERALD_JWKS: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := auth.NewVerifier(t.Context(), c.cfg, quiet)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
		})
	}
}

// A URL may hold a shared secret, which must not become an HMAC key for all.
func TestSharedSecretInAJWKSUrl(t *testing.T) {
	set := keySet(t, signers()[1])
	set = bytes.Replace(set, []byte(`"keys":[`), []byte(`"keys":[{"kty":"oct","kid":"s","k":"`+base64.RawURLEncoding.EncodeToString([]byte(jwtSecret))+`"},`), 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	v := verifier(t, auth.VerifierConfig{JWKS: server.URL})
	refused(t, v, hs256(t, good(), []byte(jwtSecret)), auth.ErrToken, notAccepted)
	checkGood(t, v, signers()[1].sign(t, good()))
}

// A token that names a key nobody knows makes the verifier look again, once;
// keys that are gone are no longer accepted then.
func TestRotationOfJWKS(t *testing.T) {
	old, next := signers()[0], signers()[1]
	var set atomic.Pointer[[]byte]
	var fetches atomic.Int32
	serve := func(of ...signer) { b := keySet(t, of...); set.Store(&b) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		_, _ = w.Write(*set.Load())
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	serve(old)
	v := verifier(t, auth.VerifierConfig{JWKS: server.URL})
	checkGood(t, v, old.sign(t, good()))
	serve(next)
	checkGood(t, v, next.sign(t, good()))
	refused(t, v, old.sign(t, good()), auth.ErrToken, wrong)
	before, begin := fetches.Load(), time.Now()
	for i := range 20 {
		s := signer{fmt.Sprint("unknown-", i), "ES256", next.key, jwt.SigningMethodES256}
		refused(t, v, s.sign(t, good()), auth.ErrToken, wrong)
	}
	if n := fetches.Load(); n != before {
		t.Errorf("unknown keys caused %d fetches within a minute of the last", n-before)
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("20 unknown keys took %s: they wait for the limiter", took)
	}
	checkGood(t, v, next.sign(t, good()))
}

// The keys known so far stay when the URL breaks later.
func TestJWKSUrlBreaksLater(t *testing.T) {
	set, broken := keySet(t, signers()[2]), atomic.Bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		_, _ = w.Write(set)
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var out syncBuffer
	v, err := auth.NewVerifier(t.Context(), auth.VerifierConfig{JWKS: server.URL}, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	refused(t, v, signer{"unknown", "EdDSA", signers()[2].key, jwt.SigningMethodEdDSA}.sign(t, good()), auth.ErrToken, wrong)
	checkGood(t, v, signers()[2].sign(t, good()))
	if !strings.Contains(out.String(), "JWKS could not be refreshed; the keys known so far stay") {
		t.Errorf("log: %s", out.String())
	}
}

func TestJWKSUrlThatHangsEndsWithTheContext(t *testing.T) {
	leave := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-leave:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(leave)
	defer http.DefaultClient.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := auth.NewVerifier(ctx, auth.VerifierConfig{JWKS: server.URL}, quiet); err == nil {
		t.Error("no error")
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

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Nobody without a key makes a token, whatever they write.
func FuzzVerify(f *testing.F) {
	set := signers()
	v := verifier(f, auth.VerifierConfig{JWKS: jwksFile(f, keySet(f, set...)), Secret: jwtSecret})
	claims := `{"sub":"u","exp":9999999999,"channels":[">"]}`
	for _, s := range []string{
		"", "..", "a.b.c", raw(`{"alg":"none"}`, claims, nil), raw(`{"alg":"HS256"}`, claims, []byte("x")), raw(`{"alg":"RS256"}`, claims, []byte("x")),
		raw(`{"alg":"ES256","kid":"ec"}`, claims, make([]byte, 64)), raw(`{"alg":"EdDSA","kid":"ed"}`, claims, make([]byte, 64)),
		raw(`{"alg":"RS256","kid":"rsa"}`, claims, make([]byte, 256)), raw(`{"alg":"ES256","kid":null}`, "null", nil), raw(`null`, `[]`, nil),
		hs256(f, good(), []byte("not the secret at all")), raw(`{"alg":"HS256"}`, `{"exp":1e999}`, nil),
	} {
		f.Add(s)
	}
	for _, s := range set { // good ones for a stranger, with the last byte changed
		token := signer{s.kid, s.alg, s.key, s.method}.sign(f, with(map[string]any{"exp": 1}))
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if p, err := v.Verify(token); err == nil {
			t.Errorf("accepted %q as %+v", token, p)
		} else if !errors.Is(err, auth.ErrToken) && !errors.Is(err, auth.ErrExpired) {
			t.Errorf("%q: an error of another kind: %v", token, err)
		}
	})
}
