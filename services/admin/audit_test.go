package admin

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/admin/users"
)

// What cannot be written down is not done, and whoever asks is told so; what ends a
// session is never refused.
func TestUnwrittenIsNotDone(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	anna := c.as(users.Viewer)
	name := anna.name()
	before := len(b.users())
	stream, err := c.js.Stream(context.Background(), audit.Stream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.Subjects = []string{"elsewhere"} // it is there, and takes no row
	if _, err := c.js.UpdateStream(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, call := range []struct{ method, path, body string }{
		{"POST", "api/users", `{"name":"eve","role":"admin"}`},
		{"PUT", "api/users/" + name, `{"role":"admin"}`},
		{"PUT", "api/users/" + name, `{"reset":true}`},
		{"DELETE", "api/users/" + name, `{}`},
		{"POST", "api/keys", `{"name":"shop","channels":["orders.>"]}`},
		{"POST", "api/kick", `{"user":"ada"}`},
		{"POST", "api/publish", `{"channel":"broadcast","data":1}`},
		{"POST", "api/login", `{"user":"` + c.user + `","password":"` + c.password + `"}`},
	} {
		a := b.call(call.method, call.path, call.body)
		if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "nothing was done") ||
			len(a.header["Set-Cookie"]) > 0 {
			t.Errorf("%s %s: got %d %s", call.method, call.path, a.status, a.body)
		}
	}
	if list := b.users(); len(list) != before || list[name].Role != users.Viewer {
		t.Errorf("users: got %v", list)
	}
	if keys := b.keys(); len(keys) != 0 {
		t.Errorf("keys: got %v", keys)
	}
	anna.want(http.StatusOK, "GET", "api/session", nil) // neither removed nor reset
	anna.want(http.StatusNoContent, "POST", "api/logout", nil)
}

// An action of which nobody knows what came stands in the audit.
func TestBegunIsSeen(t *testing.T) {
	c := start(t)
	b := c.login(c.user, c.password)
	rows := func() string {
		t.Helper()
		return b.want(http.StatusOK, "GET", "api/audit?action=key.add", nil).body
	}
	who := &call{user: "anna", role: users.Admin}
	err := c.act(context.Background(), who, intent{action: "key.add", target: "shop"}, func() (any, error) {
		if got := rows(); !strings.Contains(got, `"target":"shop"`) || !strings.Contains(got, `"outcome":"begun"`) {
			t.Errorf("while it is under way: got %s", got)
		}
		return map[string]int{"made": 1}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(); strings.Contains(got, `"outcome"`) || !strings.Contains(got, `{"made":1}`) ||
		strings.Count(got, "shop") != 1 {
		t.Errorf("afterwards: got %s", got)
	}
	failing := func() (any, error) { return nil, problemNotReady(errNotReady) }
	if c.act(context.Background(), who, intent{action: "key.add", target: "till"}, failing) == nil {
		t.Error("the error is lost")
	}
	if got := rows(); !strings.Contains(got, `"outcome":"failed"`) || !strings.Contains(got, errNotReady.Error()) {
		t.Errorf("failed: got %s", got)
	}
}

// name is who is logged in.
func (b *browser) name() string {
	b.t.Helper()
	var s sessionAnswer
	b.want(http.StatusOK, "GET", "api/session", nil).json(b.t, &s)
	return s.User
}
