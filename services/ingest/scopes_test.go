package ingest

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/logtest"
)

// A key does what its scopes say, and a new one only publishes.
func TestScopes(t *testing.T) {
	r := start(t, startNATS(t))
	plain := "X-API-KEY: " + addKey(t, "plain", keystore.Options{Channels: []string{">"}}, r)
	reader := "X-API-KEY: " +
		addKey(t, "reader", keystore.Options{Channels: []string{">"}, May: []auth.Scope{auth.History}}, r)
	r.post("/v1/channels/a", `1`, plain).result(t, http.StatusOK)
	if p := r.get("a", "", plain).problem(t, proto.ProblemForbidden); !strings.Contains(p.Detail,
		`"plain" does not have the scope history, only publish`) {
		t.Errorf("detail: got %q", p.Detail)
	}
	if page := r.page("a", "", reader); len(page.Messages) != 1 {
		t.Errorf("reader: got %+v", page)
	}
	r.post("/v1/messages", `{"channel":"a","data":1}`, reader).problem(t, proto.ProblemForbidden)
	r.post("/v1/channels/a", `1`, reader).problem(t, proto.ProblemForbidden)
	r.post("/v1/messages", "{\"channel\":\"a\",\"data\":1}\n", ndjson, reader).problem(t, proto.ProblemForbidden)
	notifyAnswer(t, "notify", r.post("/notify", `{"message":1}`, reader), http.StatusUnauthorized,
		`{"error":"Unauthorized"}`)
	if n := len(stored(t, r.nc)); n != 1 {
		t.Errorf("stored: got %d messages, want 1", n)
	}
}

// HERALD_API_KEY of a server may be a key of the bucket that somebody exported
// to use it: then it stays what it is, and nothing where it was revoked.
func TestEnvironmentKeyOfTheBucket(t *testing.T) {
	server := startNATS(t)
	first := start(t, server)
	narrow := addKey(t, "narrow", keystore.Options{Channels: []string{"orders.>"}}, first)
	revoked := addKey(t, "revoked", keystore.Options{Channels: []string{">"}}, first)
	if _, err := first.keys().Revoke(t.Context(), "revoked"); err != nil {
		t.Fatal(err)
	}
	old, _, err := first.keys().Add(t.Context(), "old", keystore.Options{Channels: []string{">"},
		Expires: time.Now().Add(-time.Hour)}, time.Now().Add(-2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		secret string
		orders int
	}{"narrow": {narrow, http.StatusOK}, "revoked": {revoked, http.StatusUnauthorized},
		"expired": {old, http.StatusUnauthorized}} {
		var log logtest.Buffer
		r := start(t, server, func(cfg *Config, d *Deps) { cfg.APIKey, d.Log = c.secret, debugLog(&log) })
		key := "X-API-KEY: " + c.secret
		if a := r.post("/v1/channels/orders.eu", `1`, key); a.status != c.orders {
			t.Errorf("%s: its channel: got %d %s, want %d", name, a.status, a.body, c.orders)
		}
		if a := r.post("/v1/channels/other", `1`, key); a.status < 400 {
			t.Errorf("%s: another channel: got %d", name, a.status)
		}
		if a := r.get("orders.eu", "", key); a.status < 400 {
			t.Errorf("%s: history: got %d", name, a.status)
		}
		if !strings.Contains(log.String(), "HERALD_API_KEY is a key that was made with herald keys") ||
			bytes.Contains([]byte(log.String()), []byte(c.secret)) {
			t.Errorf("%s: log: %s", name, log.String())
		}
		r.stop()
	}
}
