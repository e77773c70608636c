package ingest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
)

// notifyAnswer checks an answer of /notify, which is exact.
func notifyAnswer(t *testing.T, what string, a answered, status int, body string) {
	t.Helper()
	if a.status != status || strings.TrimSpace(a.body) != body {
		t.Errorf("%s: got %d %s, want %d %s", what, a.status, a.body, status, body)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: content type: got %q", what, got)
	}
}

const (
	notifySent         = `{"status":"Message sent"}`
	notifyNoMessage    = `{"error":"No message provided"}`
	notifyUnauthorized = `{"error":"Unauthorized"}`
)

// Any JSON value that Python takes for true is published to broadcast, as it
// is.
func TestNotify(t *testing.T) {
	r := start(t, startNATS(t))
	for _, message := range []string{
		`"disk full"`, `" "`, `"0"`, `"false"`, `"\u0000"`, `true`, `1`, `-1`, `0.5`, `1e-300`, `[0]`,
		`[null]`, `{"a":0}`,
		`{"":null}`, `[[]]`,
	} {
		for _, body := range []string{`{"message":` + message + `}`, ` {"user": {"message": 0}, "message" : ` +
			message +
			` , "Message": ""} `, `{"\u006dessage":` + message + `}`} {
			notifyAnswer(t, body, r.post("/notify", body), http.StatusOK, notifySent)
			got, m := r.last()
			if got.Channel != proto.Broadcast || m.Channel != proto.Broadcast || m.Event != "message" ||
				m.Sender != "env" || string(m.Data) != message {
				t.Errorf("%s: stored %s", body, got.Body)
			}
		}
	}
}

// What Python takes for false is no message.
func TestNotifyEmpty(t *testing.T) {
	r := start(t, startNATS(t))
	for _, body := range []string{
		`{}`, `{"text":"x"}`, `{"Message":"x"}`, `{"data":{"message":"x"}}`, `null`, `[]`, `[{"message":"x"}]`,
		`"message"`,
		`1`, `true`,
	} {
		notifyAnswer(t, body, r.post("/notify", body), http.StatusBadRequest, notifyNoMessage)
	}
	for _, message := range []string{`""`, `null`, `false`, `0`, `-0`, `0.0`, `-0.000`, `0e5`, `0E-7`, `1e-999`, `[]`,
		`[ ]`, "[\n]", `{}`, `{ }`} {
		body := `{"message": ` + message + ` }`
		notifyAnswer(t, body, r.post("/notify", body), http.StatusBadRequest, notifyNoMessage)
	}
	if n := len(stored(t, r.nc)); n != 0 {
		t.Errorf("stored: got %d messages, want none", n)
	}
}

// What is not JSON or breaks a limit is an invalid message, and says why.
func TestNotifyInvalid(t *testing.T) {
	r := start(t, startNATS(t))
	for _, body := range []string{
		``, ` `, `message`, `message=x`, `{"message":"x"`, `{"message":"x"}}`, `{"message":"x",}`, `{'message':'x'}`,
		"{\"message\":\"\xff\"}", "\xff",
		`{"message":"x","message":"y"}`, `{"message":{"k":1,"k":2}}`, `{"message":` + strings.Repeat("[", 65) + "1" +
			strings.Repeat("]", 65) + `}`,
		`{"message":NaN}`, `{"message":01}`,
	} {
		a := r.post("/notify", body)
		if prefix := `{"error":"Invalid message: `; a.status != http.StatusBadRequest ||
			!strings.HasPrefix(a.body, prefix) || len(a.body) < len(prefix)+8 {
			t.Errorf("%q: got %d %s, want 400 Invalid message: …", body, a.status, a.body)
		}
	}
	a := r.post("/notify", `{"message":"x"}`, "Idempotency-Key: a b")
	if a.status != http.StatusBadRequest || !strings.HasPrefix(a.body, `{"error":"Invalid message: Idempotency-Key`) {
		t.Errorf("wrong idempotency key: got %d %s", a.status, a.body)
	}
	if n := len(stored(t, r.nc)); n != 0 {
		t.Errorf("stored: got %d messages, want none", n)
	}
}

// 401 when the key is missing, wrong, expired, or does not cover broadcast.
func TestNotifyUnauthorized(t *testing.T) {
	r := start(t, startNATS(t))
	narrow := addKey(t, "narrow", keystore.Options{Channels: []string{"orders.>"}}, r)
	expired, _, err := r.keys().Add(t.Context(), "expired", keystore.Options{Channels: []string{">"},
		Expires: time.Now().Add(-time.Second)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for what, header := range map[string]string{
		"missing": "X-API-KEY:", "wrong": "X-API-KEY: wrong", "expired": "X-API-KEY: " + expired,
		"not for broadcast": "X-API-KEY: " + narrow,
	} {
		for _, body := range []string{`{"message":"x"}`, `{}`, ``, `nope`} { // the key goes first
			notifyAnswer(t, what, r.post("/notify", body, header), http.StatusUnauthorized, notifyUnauthorized)
		}
	}
	wide := addKey(t, "wide", keystore.Options{Channels: []string{"broadcast"}}, r)
	notifyAnswer(t, "covers broadcast", r.post("/notify", `{"message":"x"}`, "X-API-KEY: "+wide), http.StatusOK,
		notifySent)
	notifyAnswer(t, "bearer", r.post("/notify", `{"message":"x"}`, "X-API-KEY:", "Authorization: Bearer "+wide),
		http.StatusOK, notifySent)
}

// Other refusals have the same shape; 429 and 503 say when to try again.
func TestNotifyOtherErrors(t *testing.T) {
	server := startNATS(t)
	r := start(t, server, func(c *Config, _ *Deps) { c.MaxRequestBytes = 128 << 10 })
	slow := "X-API-KEY: " + addKey(t, "slow", keystore.Options{Channels: []string{">"}, Rate: 1}, r)
	check := func(what string, a answered, status int) {
		t.Helper()
		if a.status != status || !strings.HasPrefix(a.body, `{"error":"`) || len(a.body) < 20 {
			t.Errorf("%s: got %d %s, want %d {\"error\":…}", what, a.status, a.body, status)
		}
		if got := a.header.Get("Retry-After"); (status == 429 || status == 503) != (got != "") {
			t.Errorf("%s: Retry-After: got %q", what, got)
		}
	}
	check("message too large", r.post("/notify", `{"message":"`+strings.Repeat("x", 64<<10)+`"}`),
		http.StatusRequestEntityTooLarge)
	check("compressed", r.post("/notify", `{"message":1}`, "Content-Encoding: gzip"), http.StatusBadRequest)
	check("body too large", r.post("/notify", `{"message":1}`+strings.Repeat(" ", 128<<10)),
		http.StatusRequestEntityTooLarge)
	notifyAnswer(t, "first", r.post("/notify", `{"message":"x"}`, slow), http.StatusOK, notifySent)
	check("over the rate", r.post("/notify", `{"message":"x"}`, slow), http.StatusTooManyRequests)
	server.Stop()
	check("NATS away", r.post("/notify", `{"message":"x"}`), http.StatusServiceUnavailable)
	server.Restart()
}

// The content type does not matter, as it did not to the predecessor's
// callers; an idempotency key works here too.
func TestNotifyHeaders(t *testing.T) {
	r := start(t, startNATS(t))
	for _, contentType := range []string{"application/json", "text/plain", "application/x-www-form-urlencoded", ""} {
		notifyAnswer(t, contentType, r.post("/notify", `{"message":"x"}`, "Content-Type: "+contentType,
			"Idempotency-Key: k"),
			http.StatusOK, notifySent)
	}
	if n := len(stored(t, r.nc)); n != 1 {
		t.Errorf("stored: got %d messages, want 1", n)
	}
}
