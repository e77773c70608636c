package ingest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/nats-io/nats.go"
)

// No key, a wrong one, a placeholder, an expired or a revoked one: all the
// same 401, which says nothing of which keys there are.
func TestKeysRefused(t *testing.T) {
	r := start(t, startNATS(t))
	expired, _, err := r.keys().Add(t.Context(), "expired", keystore.Options{Channels: []string{">"},
		Expires: time.Now().Add(-time.Hour)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	revoked := addKey(t, "revoked", keystore.Options{Channels: []string{">"}}, r)
	if _, err := r.keys().Revoke(t.Context(), "revoked"); err != nil {
		t.Fatal(err)
	}
	r.awaitKey(revoked, false)
	for what, key := range map[string]string{
		"missing": "", "wrong": "hk_0000000000000000", "placeholder": "changeme", "expired": expired,
		"revoked": revoked,
		"digest":  "7d7f1f8f6d2f", "long": strings.Repeat("k", 8<<10), "half": envKey[:12], "twice": envKey +
			"," + envKey,
	} {
		for _, path := range []string{"/v1/messages", "/v1/channels/a"} {
			p := r.post(path, `{"channel":"a","data":1}`, "X-API-KEY: "+key).problem(t, proto.ProblemUnauthorized)
			if key != "" && strings.Contains(p.Detail, key) || strings.Contains(p.Detail, envKey) {
				t.Errorf("%s: the answer repeats the key: %s", what, p.Detail)
			}
		}
		p := r.post("/v1/messages", `{"channel":"a","data":1}`+"\n", ndjson, "X-API-KEY: "+key)
		p.problem(t, proto.ProblemUnauthorized)
	}
	// A good bearer token behind a bad X-API-KEY does not count: one key goes.
	r.post("/v1/messages", `{"channel":"a","data":1}`, "X-API-KEY: wrong", "Authorization: Bearer "+envKey).problem(t,
		proto.ProblemUnauthorized)
	r.nothingStored()
}

// X-Forwarded-For is believed from trusted proxies only, and from its right
// end.
func TestSpoofedSource(t *testing.T) {
	server := startNATS(t)
	for _, tt := range []struct{ trusted, forwarded, want string }{
		{"", "203.0.113.7", "127.0.0.1"},
		{"10.0.0.0/8", "203.0.113.7", "127.0.0.1"},
		{"127.0.0.1", "203.0.113.7", "203.0.113.7"},
		{"127.0.0.0/8", "1.2.3.4, 203.0.113.7", "203.0.113.7"},
		{"127.0.0.1,10.0.0.0/8", "1.2.3.4, 203.0.113.7, 10.1.2.3", "203.0.113.7"},
		{"127.0.0.1", "203.0.113.7\"\t<script>", "127.0.0.1"},
		{"127.0.0.1", "2001:db8::1", "2001:db8::1"},
		{"127.0.0.1", "", "127.0.0.1"},
	} {
		r := start(t, server, func(c *Config, _ *Deps) {
			if err := c.TrustedProxies.UnmarshalText([]byte(tt.trusted)); err != nil {
				t.Fatal(err)
			}
		})
		r.post("/v1/messages", `{"channel":"a","data":1}`, "X-Forwarded-For: "+tt.forwarded, "X-Real-IP: 9.9.9.9",
			"Forwarded: for=9.9.9.9").result(t, http.StatusOK)
		if got, _ := r.last(); got.Source != tt.want {
			t.Errorf("trusted %q, forwarded %q: got source %s, want %s", tt.trusted, tt.forwarded, got.Source, tt.want)
		}
	}
}

// Nothing that a publisher writes becomes a NATS header, subject, protocol
// line or wildcard of its own.
func TestInjection(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	all, err := dial(t, server).SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	for _, evil := range []string{
		"a\r\nPUB herald.msg.b 1\r\nx", "a\nb", "a b", "a\tb", "a\x00b", "*", ">", "a.*", "a.>", "", ".", "a.",
		".a", "a..b",
		`a"b`, `a\b`, "ä", "\u2028",
		"$JS.API.STREAM.DELETE.HERALD ", strings.Repeat("a", 256),
	} {
		quoted := string(quote([]byte(evil)))
		r.post("/v1/messages", `{"channel":`+quoted+`,"data":1}`).problem(t, proto.ProblemInvalidMessage)
		r.post("/v1/messages", `{"channels":["ok",`+quoted+`],"data":1}`).problem(t, proto.ProblemInvalidMessage)
	}
	for _, evil := range []string{"a\r\nNats-TTL: 1s", "a\nb", "a b", "\x00", "ä", ""} {
		r.post("/v1/messages", `{"channel":"a","data":1,"id":`+string(quote([]byte(evil)))+`}`).problem(t,
			proto.ProblemInvalidMessage)
	}
	for _, evil := range []string{`a","data":2,"x":"`, "a\nb", "a\x00b", `a\`, "\u0085", "\u2029", ""} {
		r.post("/v1/messages", `{"channel":"a","data":1,"event":`+string(quote([]byte(evil)))+`}`).problem(t,
			proto.ProblemInvalidMessage)
	}
	r.nothingStored()
	// A channel below $JS or $SYS is a channel like any other.
	r.post("/v1/messages", `{"channel":"$JS.API.INFO","data":1}`).result(t, http.StatusOK)
	if got, _ := r.last(); got.Channel != "$JS.API.INFO" {
		t.Errorf("channel: got %q", got.Channel)
	}
	// What the headers of the request say is not passed on.
	r.post("/v1/channels/a", `1`, "Nats-Msg-Id: x", "Nats-Rollup: all", "Herald-Source: 9.9.9.9", "traceparent: 00-zz",
		"Nats-Expected-Last-Sequence: 99").result(t, http.StatusOK)
	if got, _ := r.last(); got.Source != "127.0.0.1" || got.Trace != "" {
		t.Errorf("headers: got source %q, trace %q", got.Source, got.Trace)
	}
	for {
		msg, err := all.NextMsg(200 * time.Millisecond)
		if err != nil {
			break
		}
		if strings.HasPrefix(msg.Subject, "herald.") {
			if packs := msg.Subject == proto.SubjectPacks || msg.Subject == proto.SubjectLivePacks; !packs ||
				msg.Header.Get("Nats-Rollup") != "" || msg.Header.Get(nats.MsgIdHdr) == "x" {
				t.Errorf("heard on %s: %v", msg.Subject, msg.Header)
			}
		}
	}
}

// A page of another origin cannot publish: no answer allows it to.
func TestNoCORS(t *testing.T) {
	r := start(t, startNATS(t))
	for _, path := range []string{"/v1/messages", "/v1/channels/a", "/notify"} {
		a := r.do(http.MethodOptions, path, nil, "Origin: https://evil.example", "Access-Control-Request-Method: POST",
			"Access-Control-Request-Headers: x-api-key")
		a.problem(t, proto.ProblemMethod)
		b := r.post(path, `{"channel":"a","data":1,"message":1}`, "Origin: https://evil.example")
		for _, a := range []answered{a, b} {
			for name := range a.header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: got %s", path, name)
				}
			}
		}
	}
}

// Nothing secret and no payload is logged, whatever goes wrong.
func TestLogIsClean(t *testing.T) {
	server := startNATS(t)
	var log logtest.Buffer
	r := start(t, server, func(_ *Config, d *Deps) { d.Log = debugLog(&log) })
	secret := addKey(t, "shop", keystore.Options{Channels: []string{"a"}}, r)
	const payload = "the-payload-itself"
	for _, key := range []string{envKey, secret, "hk_wrong-secret-0000"} {
		for _, body := range []string{`{"channel":"a","data":"` + payload + `"}`, `{"channel":"b","data":"` +
			payload + `"}`,
			`{"data":"` + payload, `{"` + payload + `":1}`} {
			r.post("/v1/messages", body, "X-API-KEY: "+key)
			r.post("/v1/messages", body+"\n", ndjson, "X-API-KEY: "+key)
			r.post("/notify", body, "X-API-KEY: "+key)
		}
	}
	server.Stop()
	r.post("/v1/messages", `{"channel":"a","data":"`+payload+`"}`)
	server.Restart()
	r.stop()
	text := log.String()
	for _, bad := range []string{envKey, secret, "hk_wrong-secret-0000", payload} {
		if strings.Contains(text, bad) {
			t.Errorf("the log has %q:\n%s", bad, text)
		}
	}
	if !strings.Contains(text, "message published") || !strings.Contains(text, `"channel":"a"`) {
		t.Errorf("no line per message at level debug:\n%s", text)
	}
}
