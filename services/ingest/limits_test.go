package ingest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
)

// A key publishes where its patterns reach, and nothing else of the request
// is stored.
func TestPermissions(t *testing.T) {
	r := start(t, startNATS(t))
	key := "X-API-KEY: " + addKey(t, "shop", keystore.Options{Channels: []string{"orders.*", "news.>"}}, r)
	for _, channel := range []string{"orders.eu", "news.a", "news.a.b"} {
		r.post("/v1/messages", `{"channel":"`+channel+`","data":1}`, key).result(t, http.StatusOK)
		r.post("/v1/channels/"+channel, `1`, key).result(t, http.StatusOK)
	}
	if _, m := r.last(); m.Sender != "shop" {
		t.Errorf("sender: got %q, want shop", m.Sender)
	}
	for _, channel := range []string{"orders", "orders.eu.paid", "news", "broadcast"} {
		p := r.post("/v1/messages", `{"channel":"`+channel+`","data":1}`, key).problem(t, proto.ProblemForbidden)
		if !strings.Contains(p.Detail, " "+channel) || p.Pointer != "/channel" {
			t.Errorf("%s: got detail %q at %q", channel, p.Detail, p.Pointer)
		}
		r.post("/v1/channels/"+channel, `1`, key).problem(t, proto.ProblemForbidden)
	}
	p := r.post("/v1/messages", `[{"channel":"news.x","data":1},{"channels":["news.y","private"],"data":1}]`,
		key).problem(t, proto.ProblemForbidden)
	if p.Pointer != "/1/channels/1" || !strings.Contains(p.Detail, "private") {
		t.Errorf("array: got detail %q at %q", p.Detail, p.Pointer)
	}
	if n := len(stored(t, r.nc)); n != 6 {
		t.Errorf("stored: got %d messages, want 6", n)
	}
}

// Over its rate a key gets 429 and is told when to come back; an array counts
// with all its messages.
func TestRate(t *testing.T) {
	r := start(t, startNATS(t))
	key := "X-API-KEY: " + addKey(t, "slow", keystore.Options{Channels: []string{">"}, Rate: 2}, r)
	r.post("/v1/messages", `{"channels":["a","b"],"data":1}`, key).results(t, http.StatusOK)
	for _, a := range []answered{
		r.post("/v1/messages", `{"channel":"a","data":1}`, key),
		r.post("/v1/messages", `[{"channel":"a","data":1}]`, key),
		r.post("/v1/channels/a", `1`, key),
	} {
		a.problem(t, proto.ProblemTooManyRequests)
		if got := a.header.Get("Retry-After"); got != "1" {
			t.Errorf("Retry-After: got %q, want 1", got)
		}
	}
	if n := len(stored(t, r.nc)); n != 2 {
		t.Errorf("stored: got %d messages, want 2", n)
	}
	r.post("/v1/messages", `{"channel":"a","data":1}`).result(t, http.StatusOK) // other keys are not held up
}

// The configured limits hold, and NATS's max_payload below them.
func TestLimits(t *testing.T) {
	r := start(t, startNATS(t), func(c *Config, _ *Deps) { c.MaxMessageBytes, c.MaxRequestBytes = 100, 1024 })
	fits := `"` + strings.Repeat("x", 98) + `"`
	r.post("/v1/messages", `{"channel":"a","data":`+fits+`}`).result(t, http.StatusOK)
	r.post("/v1/channels/a", fits).result(t, http.StatusOK)
	r.post("/v1/channels/a", fits[1:99], "Content-Type: text/plain").result(t, http.StatusOK)
	larger := `"x` + fits[1:]
	r.post("/v1/messages", `{"channel":"a","data":`+larger+`}`).problem(t, proto.ProblemTooLarge)
	r.post("/v1/channels/a", larger).problem(t, proto.ProblemTooLarge)
	r.post("/v1/channels/a", larger[1:100], "Content-Type: text/plain").problem(t, proto.ProblemTooLarge)
	r.post("/v1/messages", `{"channel":"a","data":1}`+strings.Repeat(" ", 1024)).problem(t, proto.ProblemTooLarge)

	// 1 MiB is what natstest's server takes at most.
	r = start(t, startNATS(t), func(c *Config, _ *Deps) { c.MaxMessageBytes = 4 << 20 })
	r.post("/v1/messages", `{"channel":"a","data":"`+strings.Repeat("x", 1<<20)+`"}`).problem(t, proto.ProblemTooLarge)
	limit := r.publisher.MaxData(4 << 20)
	channel, event := strings.Repeat("c", proto.MaxChannelBytes), strings.Repeat("e", proto.MaxEventBytes)
	r.post("/v1/messages", `{"channel":"`+channel+`","event":"`+event+`","id":"`+strings.Repeat("k", proto.MaxKeyBytes)+
		`","data":"`+
		strings.Repeat("x", limit-2)+`"}`).result(t, http.StatusOK)
}

// Content types of /v1/messages.
func TestContentTypes(t *testing.T) {
	r := start(t, startNATS(t))
	body := `{"channel":"a","data":1}`
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8",
		"Application/JSON;charset=UTF-8", ""} {
		r.post("/v1/messages", body, "Content-Type: "+contentType).result(t, http.StatusOK)
	}
	for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", "application/xml",
		"application/json; charset=latin1", "json", "a/b/c", ";"} {
		r.post("/v1/messages", body, "Content-Type: "+contentType).problem(t, proto.ProblemMediaType)
	}
	r.post("/v1/messages", body, "Content-Encoding: gzip").problem(t, proto.ProblemMediaType)
	r.post("/v1/messages", body, "Content-Encoding: identity").result(t, http.StatusOK)
}

// Unknown paths and methods are problems too.
func TestUnknownRoutes(t *testing.T) {
	r := start(t, startNATS(t))
	r.do(http.MethodGet, "/v1/messages", nil).problem(t, proto.ProblemMethod)
	r.do(http.MethodPost, "/openapi.json", nil).problem(t, proto.ProblemMethod)
	for _, path := range []string{"/", "/v1", "/v1/channels", "/v1/channels/", "/v1/channels/a/b", "/v1/messages/"} {
		r.post(path, `{}`).problem(t, proto.ProblemNotFound)
	}
}
