package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/herald-push/herald/services/internal/auth"
)

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
