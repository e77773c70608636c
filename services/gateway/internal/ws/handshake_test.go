package ws_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Who asks wrongly is told what is right: any other version than 13 gets 426 and
// "Sec-WebSocket-Version: 13" (RFC 6455 section 4.4), and no handshake at all
// gets at least the protocol that this path speaks (RFC 9110 section 15.5.22).
func TestUpgradeRefused(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answered := 0
		nc, _, err := ws.Upgrade(w, r, "", false, func(status int, reason error) {
			answered++
			http.Error(w, reason.Error(), status)
		})
		switch {
		case err == nil:
			_ = nc.Close()
		case answered != 1:
			t.Errorf("refuse was called %d times", answered)
		}
	}))
	defer s.Close()
	for _, c := range []struct {
		name, method string
		change       map[string]string // of a correct handshake; empty: without it
		status       int
		version      string
	}{
		{"correct", "GET", nil, 101, ""},
		{"among others", "GET", map[string]string{"Sec-WebSocket-Version": "8, 13"}, 101, ""},
		{"an old version", "GET", map[string]string{"Sec-WebSocket-Version": "8"}, 426, "13"},
		{"a version to come", "GET", map[string]string{"Sec-WebSocket-Version": "130"}, 426, "13"},
		{"no version", "GET", map[string]string{"Sec-WebSocket-Version": ""}, 426, "13"},
		{"no handshake", "GET", map[string]string{"Sec-WebSocket-Version": "", "Upgrade": "", "Connection": "",
			"Sec-WebSocket-Key": ""}, 426, "13"},
		{"a key that is none", "GET", map[string]string{"Sec-WebSocket-Key": "x"}, 400, ""},
		{"another method", "POST", nil, 405, ""},
	} {
		r, err := http.NewRequest(c.method, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		} {
			if changed, ok := c.change[name]; ok {
				value = changed
			}
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Sec-WebSocket-Version"); resp.StatusCode != c.status || got != c.version {
			t.Errorf("%s: got %d and version %q, want %d and %q", c.name, resp.StatusCode, got, c.status, c.version)
		}
		if got := resp.Header.Get("Upgrade"); !strings.EqualFold(got, "websocket") {
			t.Errorf("%s: got Upgrade %q", c.name, got)
		}
	}
}
