package httpx

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		list, authority string
		want            bool
	}{
		{"", "evil.example", true},
		{"push.example.com", "push.example.com", true}, {"push.example.com", "PUSH.example.com.:5000", true},
		{"push.example.com", "evil.example", false}, {"push.example.com", "push.example.com.evil.example", false},
		{"push.example.com", "apush.example.com", false}, {"push.example.com", "", true},
		{"*.example.com", "a.example.com:80", true}, {"*.example.com", "a.b.example.com", true},
		{"*.example.com", "example.com", false}, {"*.example.com", "evilexample.com", false},
		{"*.example.com", ".example.com", false},
		{"push.example.com", "127.0.0.1:5000", true}, {"push.example.com", "[::1]:5000", true},
		{"push.example.com", "[::1]", true},
		{"push.example.com", "localhost:5000", true}, {"push.example.com", "localhost.evil.example", false},
		{"push.example.com", "127.0.0.1.evil.example", false},
		{"push.example.com", "127.0.0.1.", true}, {"push.example.com", "a:b:c", false},
	} {
		var hosts Hosts
		if c.list != "" {
			hosts = strings.Split(c.list, ",")
		}
		if got := hosts.allow(c.authority); got != c.want {
			t.Errorf("%q with the list %q: got %t", c.authority, c.list, got)
		}
	}
	for name, good := range map[string]bool{"push.example.com": true, "*.example.com": true,
		"intranet": true, "*": false, "*.": false,
		"https://a.example": false, "a.example:80": false, "a/b": false, "": false, "*.*.a": false, ".a": false,
		"a.": false} {
		if err := (Hosts{name}).Validate(); (err == nil) != good {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

// A page that had its name resolved to this server is refused on every path,
// whether it says its origin or not.
func TestRebinding(t *testing.T) {
	h := guardHosts(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }),
		Hosts{"push.example.com"}, proxies(t, "192.0.2.1"), quiet)
	for _, c := range []struct {
		host, forwarded, peer string
		want                  int
	}{
		{"push.example.com", "", "198.51.100.1:1", 200}, {"evil.example:5000", "", "198.51.100.1:1", 403},
		// the page says so itself
		{"evil.example", "push.example.com", "198.51.100.1:1", 403},
		// the proxy does
		{"upstream", "push.example.com", "192.0.2.1:1", 200}, {"push.example.com", "evil.example", "192.0.2.1:1", 403},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/x", nil)
		r.Host, r.RemoteAddr = c.host, c.peer
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-Host", c.forwarded)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%+v: got %d", c, w.Code)
		}
	}
}

// HSTS is for names of the web, over TLS that this server speaks.
func TestStrictTransport(t *testing.T) {
	h := guardHosts(hello, nil, proxies(t, ""), quiet)
	for _, c := range []struct {
		host string
		tls  bool
		want string
	}{{"push.example.com", true, "max-age=31536000"}, {"push.example.com", false, ""}, {"localhost:5000", true, ""},
		{"127.0.0.1", true, ""}} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host, r.TLS = c.host, nil
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("Strict-Transport-Security"); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}
