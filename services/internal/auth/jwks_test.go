package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/logtest"
)

func TestVerifierRefusesBadKeys(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.json")
	text, other, shared := jwksFile(t, []byte("-----BEGIN PUBLIC KEY-----")), jwksFile(t, []byte(`{"not":"keys"}`)),
		jwksFile(t, []byte(`{"keys":[{"kty":"oct","kid":"s","k":"c2VjcmV0"}]}`))
	broken := jwksFile(t, []byte(`{"keys":[{"kty":"RSA","kid":"r","n":"!","e":"AQAB"}]}`))
	for _, c := range []struct {
		name string
		cfg  auth.VerifierConfig
		want []string
	}{
		{"short secret", auth.VerifierConfig{Secret: jwtSecret[:31]},
			[]string{"HERALD_JWT_SECRET has 31 characters; use at least 32"}},
		{"placeholder", auth.VerifierConfig{Secret: "changeme-changeme-changeme-changeme"},
			[]string{"HERALD_JWT_SECRET looks like a placeholder"}},
		{"missing file", auth.VerifierConfig{JWKS: missing}, []string{"HERALD_JWKS: open " + missing}},
		{"no JSON", auth.VerifierConfig{JWKS: text}, []string{"HERALD_JWKS: " + text}},
		{"another JSON", auth.VerifierConfig{JWKS: other},
			[]string{"HERALD_JWKS: ", "the key set has no keys that could be used"}},
		{"shared secret", auth.VerifierConfig{JWKS: shared},
			[]string{"HERALD_JWKS: " + shared, `key "s" is a shared secret; a JWKS holds public keys`}},
		{"broken key", auth.VerifierConfig{JWKS: broken}, []string{"HERALD_JWKS: " + broken}},
		{"plain http", auth.VerifierConfig{JWKS: "http://user:pw@id.example/keys"},
			[]string{"HERALD_JWKS: http://user:xxxxx@id.example/keys is plain http", "use https"}},
		{"three secrets", auth.VerifierConfig{Secret: jwtSecret + " " + jwtSecret + "\n" + jwtSecret},
			[]string{"HERALD_JWT_SECRET has 3 secrets"}},
		{"short second secret", auth.VerifierConfig{Secret: jwtSecret + "\nshort"},
			[]string{"HERALD_JWT_SECRET: secret 2 has 5 characters"}},
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
	set = bytes.Replace(set, []byte(`"keys":[`), []byte(`"keys":[{"kty":"oct","kid":"s","k":"`+
		base64.RawURLEncoding.EncodeToString([]byte(jwtSecret))+`"},`), 1)
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
	if took := time.Since(begin); took > 20*time.Second {
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
	var out logtest.Buffer
	v := logged(t, auth.VerifierConfig{JWKS: server.URL}, slog.New(slog.NewTextHandler(&out, nil)))
	broken.Store(true)
	refused(t, v, signer{"unknown", "EdDSA", signers()[2].key, jwt.SigningMethodEdDSA}.sign(t, good()), auth.ErrKeys,
		auth.ErrKeys.Error())
	checkGood(t, v, signers()[2].sign(t, good()))
	says(t, &out, "JWKS could not be refreshed; the keys known so far stay")
}

// says waits for a line: the log is written after the answer to who waited for the keys.
func says(t *testing.T, out *logtest.Buffer, line string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ; !strings.Contains(out.String(), line); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("log: %s", out.String())
		}
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
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	v, err := auth.NewVerifier(ctx, auth.VerifierConfig{JWKS: server.URL}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	v.Run(ctx) // returns
	if v.Ready() == nil {
		t.Error("ready without a key")
	}
}

// An identity provider that is away when Herald starts is asked again.
func TestJWKSUrlIsAwayAtFirst(t *testing.T) {
	set, answer := keySet(t, signers()[1]), atomic.Int32{}
	answer.Store(http.StatusServiceUnavailable)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(answer.Load()))
		_, _ = w.Write(set)
	}))
	defer server.Close()
	var out logtest.Buffer
	v := logged(t, auth.VerifierConfig{JWKS: server.URL, Secret: jwtSecret}, slog.New(slog.NewTextHandler(&out, nil)))
	if err := v.Ready(); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
	says(t, &out, "JWKS could not be fetched")
	noKid := signer{"", "ES256", signers()[1].key, jwt.SigningMethodES256}
	refused(t, v, noKid.sign(t, good()), auth.ErrKeys, auth.ErrKeys.Error())
	checkGood(t, v, hs256(t, good(), []byte(jwtSecret))) // needs no key of the URL
	answer.Store(http.StatusOK)
	for deadline := time.Now().Add(time.Minute); v.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still %v", v.Ready())
		}
	}
	checkGood(t, v, noKid.sign(t, good()))
}

// An answer without keys takes none away.
func TestEmptyAnswerOfAJWKSUrl(t *testing.T) {
	for _, body := range []string{"{}", `{"keys":[]}`, `{"keys":null}`, "[]", "null", "", "<html>",
		`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`} {
		t.Run(body, func(t *testing.T) {
			set := keySet(t, signers()[2])
			var empty atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if empty.Load() {
					_, _ = io.WriteString(w, body)
					return
				}
				_, _ = w.Write(set)
			}))
			defer server.Close()
			var out logtest.Buffer
			v := logged(t, auth.VerifierConfig{JWKS: server.URL}, slog.New(slog.NewTextHandler(&out, nil)))
			empty.Store(true)
			refused(t, v, signer{"unknown", "EdDSA", signers()[2].key, jwt.SigningMethodEdDSA}.sign(t, good()),
				auth.ErrKeys, auth.ErrKeys.Error())
			checkGood(t, v, signers()[2].sign(t, good()))
			says(t, &out, "the keys known so far stay")
			if !strings.Contains(out.String(), "level=WARN") {
				t.Errorf("log: %s", out.String())
			}
		})
	}
}

// Many clients that come with a new key at once wait for one fetch.
func TestRushAfterRotation(t *testing.T) {
	old, next := signers()[0], signers()[1]
	var set atomic.Pointer[[]byte]
	var fetches atomic.Int32
	serve := func(of ...signer) { b := keySet(t, of...); set.Store(&b) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if fetches.Add(1) > 1 {
			time.Sleep(100 * time.Millisecond) // the others come meanwhile
		}
		_, _ = w.Write(*set.Load())
	}))
	defer server.Close()
	serve(old)
	v := verifier(t, auth.VerifierConfig{JWKS: server.URL})
	serve(next)
	token := next.sign(t, good())
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			time.Sleep(rand.N(50 * time.Millisecond))
			checkAccepted(t, v, token)
		})
	}
	wg.Wait()
	if n := fetches.Load(); n != 2 {
		t.Errorf("got %d fetches, want one at start and one for all", n)
	}
}

func TestJWKSUrlRedirects(t *testing.T) {
	set := keySet(t, signers()[2])
	keys := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }
	other := httptest.NewServer(http.HandlerFunc(keys))
	defer other.Close()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("/keys", keys)
	mux.Handle("/moved", http.RedirectHandler("/keys", http.StatusFound))
	mux.Handle("/away", http.RedirectHandler(other.URL, http.StatusFound))
	checkGood(t, verifier(t, auth.VerifierConfig{JWKS: server.URL + "/moved"}), signers()[2].sign(t, good()))
	if err := verifier(t, auth.VerifierConfig{JWKS: server.URL + "/away"}).Ready(); err == nil ||
		!strings.Contains(err.Error(), "redirects to another origin") {
		t.Errorf("got %v", err)
	}
}

// A broken or foreign key does not take the others away, in a file as at a URL.
func TestJWKSFileWithABrokenKey(t *testing.T) {
	b := bytes.Replace(keySet(t, signers()[1]), []byte(`"keys":[`),
		[]byte(`"keys":[{"kty":"RSA","kid":"r","n":"!","e":"AQAB"},{"kty":"new","kid":"n"},{"kty":"oct","kid":"s",`+
			`"k":"c2VjcmV0"},7,`), 1)
	var out logtest.Buffer
	v := logged(t, auth.VerifierConfig{JWKS: jwksFile(t, append([]byte("\ufeff"), b...))},
		slog.New(slog.NewTextHandler(&out, nil)))
	checkGood(t, v, signers()[1].sign(t, good()))
	if n := strings.Count(out.String(), "a key of the JWKS is left out"); n != 4 {
		t.Errorf("got %d lines, want one per key: %s", n, out.String())
	}
}

// eventually verifies until the answer is the wanted one: files are looked at
// once a second.
func eventually(t *testing.T, v *auth.Verifier, token string, want error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := v.Verify(token)
		if errors.Is(err, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
}

func TestJWKSFileIsReadAgain(t *testing.T) {
	old, next := signers()[0], signers()[1]
	path := jwksFile(t, keySet(t, old))
	var out logtest.Buffer
	v := logged(t, auth.VerifierConfig{JWKS: path}, slog.New(slog.NewTextHandler(&out, nil)))
	rewrite := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(keySet(t, next))
	eventually(t, v, next.sign(t, good()), nil)
	refused(t, v, old.sign(t, good()), auth.ErrToken, wrong)
	rewrite([]byte(`{"keys":`)) // half written
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String(),
		"what was read before stays"); time.Sleep(20 * time.Millisecond) {
		checkGood(t, v, next.sign(t, good()))
		if time.Now().After(deadline) {
			t.Fatal("the broken file was not noticed")
		}
	}
	checkGood(t, v, next.sign(t, good()))
}

// Two secrets are valid while backends change from one to the other, and a
// secret's file needs no restart.
func TestRotationOfSecrets(t *testing.T) {
	const next = "d41d8cd98f00b204e9800998ecf8427e"
	both := verifier(t, auth.VerifierConfig{Secret: jwtSecret + " " + next})
	for _, secret := range []string{jwtSecret, next} {
		checkGood(t, both, hs256(t, good(), []byte(secret)))
	}
	refused(t, both, hs256(t, good(), []byte(jwtSecret+" "+next)), auth.ErrToken, wrong)

	path := filepath.Join(t.TempDir(), "secret")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(jwtSecret + "\n")
	v := verifier(t, auth.VerifierConfig{Secret: jwtSecret, SecretFile: path})
	with, without := hs256(t, good(), []byte(next)), hs256(t, good(), []byte(jwtSecret))
	refused(t, v, with, auth.ErrToken, wrong)
	write("\ufeff" + next + "\r\n" + jwtSecret + "\r\n")
	eventually(t, v, with, nil)
	checkGood(t, v, without)
	write(next)
	eventually(t, v, without, auth.ErrToken)
	checkGood(t, v, with)
	write("short")
	time.Sleep(1100 * time.Millisecond) // one look at the file
	checkGood(t, v, with)
}
