package ingest

import (
	"bytes"
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
)

// Keys that are made, rotated and revoked count at once in every ingest.
func TestKeysEverywhere(t *testing.T) {
	server := startNATS(t)
	rigs := []*rig{start(t, server), start(t, server)}
	keys := rigs[0].keys()
	status := func(secret string) (out []int) {
		for _, r := range rigs {
			out = append(out, r.post("/v1/messages", `{"channel":"a","data":1}`, "X-API-KEY: "+secret).status)
		}
		return out
	}
	want := func(what, secret string, code int) {
		t.Helper()
		for _, r := range rigs {
			r.awaitKey(secret, code == http.StatusOK)
		}
		if got := status(secret); got[0] != code || got[1] != code {
			t.Errorf("%s: got %v, want %d", what, got, code)
		}
	}
	first := addKey(t, "shop", keystore.Options{Channels: []string{">"}}, rigs...)
	want("added", first, http.StatusOK)
	second, _, err := keys.Rotate(t.Context(), "shop", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want("rotated, the new one", second, http.StatusOK)
	want("rotated, the old one within its grace", first, http.StatusOK)
	third, _, err := keys.Rotate(t.Context(), "shop", 0, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want("rotated again, the newest one", third, http.StatusOK)
	want("rotated again, the older ones", first, http.StatusUnauthorized)
	want("rotated again, the older ones", second, http.StatusUnauthorized)
	if _, err := keys.Revoke(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	want("revoked", third, http.StatusUnauthorized)
	want("the env key still", envKey, http.StatusOK)
}

// A key expires by itself.
func TestKeyExpires(t *testing.T) {
	r := start(t, startNATS(t))
	secret := addKey(t, "guest", keystore.Options{Channels: []string{">"},
		Expires: time.Now().Add(5 * time.Second)}, r)
	header := "X-API-KEY: " + secret
	r.post("/v1/messages", `{"channel":"a","data":1}`, header).result(t, http.StatusOK)
	r.awaitKey(secret, false)
	p := r.post("/v1/messages", `{"channel":"a","data":1}`, header).problem(t, proto.ProblemUnauthorized)
	if !strings.Contains(p.Detail, "expired") {
		t.Errorf("detail: got %q", p.Detail)
	}
}

// A revocation counts over a restart of NATS.
func TestKeysOverAnOutage(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	secret := addKey(t, "shop", keystore.Options{Channels: []string{">"}}, r)
	keys := r.keys()
	server.Restart()
	natstest.Eventually(t, 30*time.Second, "revoked", func() bool {
		_, err := keys.Revoke(t.Context(), "shop")
		return err == nil
	})
	r.awaitKey(secret, false)
	another := addKey(t, "another", keystore.Options{Channels: []string{">"}}, r)
	r.post("/v1/messages", `{"channel":"a","data":1}`, "X-API-KEY: "+another).result(t, http.StatusOK)
}

// When a key was last used is written down; the env key is in no bucket.
func TestLastUse(t *testing.T) {
	r := start(t, startNATS(t))
	secret := addKey(t, "shop", keystore.Options{Channels: []string{">"}}, r)
	keys := r.keys()
	r.post("/v1/messages", `{"channel":"a","data":1}`, "X-API-KEY: "+secret).result(t, http.StatusOK)
	r.post("/v1/messages", `{"channel":"a","data":1}`).result(t, http.StatusOK)
	r.stop() // writes what was noted
	list, err := keys.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("keys: got %+v, %v", list, err)
	}
	if got := list[0].LastUsed; time.Since(got) > time.Minute {
		t.Errorf("last used: got %v", got)
	}
}

// Of several ingests that start together without any key one makes the first
// one, once.
func TestFirstKey(t *testing.T) {
	server := startNATS(t)
	var mu sync.Mutex
	var secrets []string
	noKey := func(c *Config, d *Deps) {
		c.APIKey = ""
		d.Announce = func(secret string) {
			mu.Lock()
			defer mu.Unlock()
			secrets = append(secrets, secret)
		}
	}
	var rigs []*rig
	for range 6 {
		rigs = append(rigs, launch(t, server, noKey))
	}
	for _, r := range rigs {
		natstest.Eventually(t, 30*time.Second, "ready", func() bool { return r.ready(t.Context()) == nil })
	}
	mu.Lock()
	got := append([]string(nil), secrets...)
	mu.Unlock()
	if len(got) != 1 || !strings.HasPrefix(got[0], "hk_") {
		t.Fatalf("announced: got %d keys, want 1", len(got))
	}
	list, err := rigs[0].keys().List(t.Context())
	if err != nil || len(list) != 1 {
		t.Errorf("stored: got %d keys, %v, want 1", len(list), err)
	}
	for _, r := range rigs {
		r.awaitKey(got[0], true)
		r.post("/v1/messages", `{"channel":"a.b","data":1}`, "X-API-KEY: "+got[0]).result(t, http.StatusOK)
	}
	// A later start makes none, nor when all keys are revoked: somebody wanted
	// that.
	late := start(t, server, noKey)
	if _, err := late.keys().Revoke(t.Context(), list[0].Name); err != nil {
		t.Fatal(err)
	}
	late.stop()
	start(t, server, noKey)
	mu.Lock()
	defer mu.Unlock()
	if len(secrets) != 1 {
		t.Errorf("announced: got %d keys after later starts, want 1", len(secrets))
	}
}

// With HERALD_API_KEY no key is made; with a stored key none either.
func TestNoFirstKey(t *testing.T) {
	server := startNATS(t)
	announce := func(string) { t.Error("a key was made") }
	r := start(t, server, func(_ *Config, d *Deps) { d.Announce = announce })
	if list, err := r.keys().List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("stored: got %d keys, %v, want none", len(list), err)
	}
	addKey(t, "shop", keystore.Options{Channels: []string{">"}}, r)
	start(t, server, func(c *Config, d *Deps) { c.APIKey, d.Announce = "", announce })
}

// The banner has the key on a line of its own, says that it is shown once,
// and gives a curl line that works.
func TestBanner(t *testing.T) {
	server := startNATS(t)
	var out bytes.Buffer // written before the service is ready, read after
	r := start(t, server, func(c *Config, d *Deps) { c.APIKey, d.Stdout = "", &out })
	text := out.String()
	m := regexp.MustCompile(`(?m)^ +API key: (hk_[a-z2-7]{32})$`).FindStringSubmatch(text)
	if m == nil || strings.Count(text, m[1]) != 2 {
		t.Fatalf("banner:\n%s", text)
	}
	port := r.Addr().String()[strings.LastIndex(r.Addr().String(), ":"):]
	want := "curl -H 'X-API-KEY: " + m[1] + "' -d 'hello' http://localhost" + port + "/v1/channels/broadcast\n"
	if !strings.Contains(text, "shown once") || !strings.Contains(text, want) {
		t.Errorf("banner:\n%s\nwant the line %s", text, want)
	}
	r.post("/v1/channels/broadcast", "hello", "X-API-KEY: "+m[1],
		"Content-Type: application/x-www-form-urlencoded").result(t, http.StatusOK)
}

// Without a way to show the first key New refuses, instead of losing it.
func TestNewNeedsAWayToAnnounce(t *testing.T) {
	server := startNATS(t)
	_, err := New(context.Background(), DefaultConfig(), Deps{NATS: dial(t, server), Log: natstest.Log(t)})
	if err == nil || !strings.Contains(err.Error(), "Announce") {
		t.Errorf("got %v", err)
	}
}

// Settings that cannot be are refused with a sentence each; a secret is not
// in it.
func TestValidate(t *testing.T) {
	c := Config{APIKey: "changeme", MaxMessageBytes: 10, MaxRequestBytes: 5}
	err := c.Validate()
	if err == nil {
		t.Fatal("an impossible configuration is accepted")
	}
	for _, want := range []string{"HERALD_API_KEY", "stream-max-age", "stream-max-bytes",
		"replicas", "max-message-bytes", "max-request-bytes", "drain"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in:\n%v", want, err)
		}
	}
	for _, secret := range []string{"short", "changeme-changeme", "aaaaaaaaaaaaaaaaaaaaaaaa",
		"your-api-key-goes-here-1"} {
		c := DefaultConfig()
		c.APIKey = secret
		if err := c.Validate(); err == nil || strings.Contains(err.Error(), secret) ||
			!strings.Contains(err.Error(), "HERALD_API_KEY") {
			t.Errorf("%s: got %v", secret, err)
		}
	}
	c = DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	c.APIKey = auth.NewSecret()
	if err := c.Validate(); err != nil {
		t.Errorf("a good key: %v", err)
	}
}
