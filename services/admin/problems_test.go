package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/admin/internal/kvcache"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What NATS says is worded for people, however it is wrapped.
func TestTrouble(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{context.DeadlineExceeded, "it took too long"},
		{nats.ErrTimeout, "it took too long"},
		{jetstream.ErrStreamNotFound, "what was asked for is not there; a service may still be making it"},
		{jetstream.ErrBucketNotFound, "what was asked for is not there; a service may still be making it"},
		{nats.ErrNoResponders, "its JetStream is not there, or has no leader at the moment"},
		{jetstream.ErrNoStreamResponse, "its JetStream is not there, or has no leader at the moment"},
		{nats.ErrConnectionClosed, "there is no connection to it"},
		{kvcache.ErrAway, "there is no connection to it"},
		{errors.New("the disk is full"), "read: the disk is full"},
	} {
		if got := trouble(fmt.Errorf("read: %w", c.err)); got != c.want {
			t.Errorf("%v: got %q, want %q", c.err, got, c.want)
		}
	}
}

// No error says a thing twice, or in the words of a library.
func TestErrorsReadWell(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	if err := c.js.DeleteStream(t.Context(), proto.Stream); err != nil {
		t.Fatal(err)
	}
	for _, call := range []struct{ method, path, body, want string }{
		{"GET", "api/messages/nonsense", "", `invalid id: \"nonsense\" is not an id that Herald gave out`},
		{"GET", "api/messages/mib3k2x9-64", "", "the stream does not answer: what was asked for is not there"},
		{"POST", "api/keys", `{"name":"x","channels":["a"],"scopes":["read"]}`, `scopes: \"read\"; want some of`},
		{"GET", "api/overview", "",
			"the stream HERALD (what was asked for is not there; a service may still be making it)"},
	} {
		var body any
		if call.body != "" {
			body = call.body
		}
		if a := b.call(call.method, call.path, body); !strings.Contains(a.body, `"`+call.want) {
			t.Errorf("%s %s: got %d %s, want %s", call.method, call.path, a.status, a.body, call.want)
		}
	}
}

// The audit says who logged in or tried to, and how.
func TestAuditOfLogins(t *testing.T) {
	c := start(t)
	stranger := c.browser()
	for _, name := range []string{"anna", "my secret password"} {
		stranger.want(http.StatusUnauthorized, "POST", "api/login",
			map[string]string{"user": name, "password": "wrong"})
	}
	got := c.as(users.Admin).want(http.StatusOK, "GET", "api/audit?action=login", nil).body
	for _, want := range []string{`"action":"login.refused","target":"anna","before":null,"after":{"by":"password"}`,
		`"action":"login.refused","target":"(no name of a user)"`, `"action":"login","target":"admin-`,
		`"before":null,"after":{"by":"password"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("the audit lacks %s: %s", want, got)
		}
	}
	if strings.Contains(got, "my secret password") || strings.Contains(got, `"target":"password"`) {
		t.Errorf("the audit: got %s", got)
	}
}
