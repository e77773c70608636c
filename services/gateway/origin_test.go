package gateway

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		name    string
		allowed []string
		origin  string
		host    string
		want    bool
	}{
		{"no browser", nil, "", "a.example", true},
		{"same host", nil, "https://a.example", "a.example", true},
		{"same host and port", nil, "http://a.example:5000", "a.example:5000", true},
		{"another port", nil, "http://a.example:5001", "a.example:5000", false},
		{"capitals", nil, "https://A.example", "a.Example", true},
		{"another host", nil, "https://b.example", "a.example", false},
		{"a suffix", nil, "https://evil-a.example", "a.example", false},
		{"a prefix", nil, "https://a.example.evil", "a.example", false},
		{"a user", nil, "https://a.example@evil.example", "a.example", false},
		{"another port, the scheme's own", nil, "http://a.example", "a.example:5000", false},
		{"the port that is left out", nil, "https://a.example:8443", "a.example", false},
		{"the port of https is written", nil, "https://a.example", "a.example:443", true},
		{"the port of http is written", nil, "http://a.example", "a.example:80", true},
		{"IPv6", nil, "http://[::1]:5000", "[::1]:5000", true},
		{"IPv6 in another spelling", nil, "http://[::1]", "[0:0::1]:80", true},
		{"another IPv6", nil, "http://[::2]", "[::1]", false},
		{"a path", nil, "https://a.example/x", "a.example", false},
		{"a mask in an origin", nil, "https://*.example", "*.example", false},
		{"null", nil, "null", "a.example", false},
		{"null and no host", nil, "null", "", false},
		{"no URL", nil, "://", "a.example", false},
		{"on the list", []string{"https://b.example"}, "https://b.example", "a.example", true},
		{"on the list with a slash", []string{"https://b.example/"}, "https://b.example", "a.example", true},
		{"another scheme", []string{"https://b.example"}, "http://b.example", "a.example", false},
		{"the list names the port of https", []string{"https://b.example:443"}, "https://b.example", "a.example", true},
		{"the list names another port", []string{"https://b.example:8443"}, "https://b.example", "a.example", false},
		{"capitals on the list", []string{"HTTPS://B.Example"}, "https://b.example", "a.example", true},
		{"an IDN", []string{"https://bücher.example"}, "https://xn--bcher-kva.example", "a.example", true},
		{"an IDN in ASCII", []string{"https://xn--bcher-kva.example"}, "https://xn--bcher-kva.example",
			"a.example", true},
		{"an IDN in capitals", []string{"https://BÜCHER.example"}, "https://xn--bcher-kva.example", "a.example", true},
		{"a mask", []string{"https://*.example.com"}, "https://a.example.com", "a.example", true},
		{"a mask, two labels", []string{"https://*.example.com"}, "https://a.b.example.com", "a.example", true},
		{"a mask, none", []string{"https://*.example.com"}, "https://example.com", "a.example", false},
		{"a mask, half a label", []string{"https://*.example.com"}, "https://evilexample.com", "a.example", false},
		{"a mask, another scheme", []string{"https://*.example.com"}, "http://a.example.com", "a.example", false},
		{"a mask, another port", []string{"https://*.example.com"}, "https://a.example.com:8443", "a.example", false},
		{"a mask with a port", []string{"https://*.example.com:8443"}, "https://a.example.com:8443", "a.example", true},
		{"a mask of an IDN", []string{"https://*.bücher.example"}, "https://a.xn--bcher-kva.example",
			"a.example", true},
		{"any port", []string{"http://localhost:*"}, "http://localhost:5173", "localhost:5000", true},
		{"any port, the scheme's own", []string{"http://localhost:*"}, "http://localhost", "localhost:5000", true},
		{"any port, another host", []string{"http://localhost:*"}, "http://localhost.evil.example:5173",
			"localhost:5000", false},
		{"null on the list", []string{"null"}, "null", "a.example", true},
		{"only null on the list", []string{"null"}, "https://b.example", "a.example", false},
		{"file on the list", []string{"file://"}, "file://", "a.example", true},
		{"only file on the list", []string{"file://"}, "null", "a.example", false},
		{"an app", []string{"capacitor://localhost"}, "capacitor://localhost", "a.example", true},
		{"an underscore", []string{"http://my_host:8000"}, "http://my_host:8000", "a.example", true},
		{"all", []string{"*"}, "https://evil.example", "a.example", true},
		{"all, null", []string{"*"}, "null", "a.example", true},
	} {
		allowed, err := parseAllowed(c.allowed)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		s := &Service{}
		s.rules.Store(&rules{origins: allowed})
		r := &http.Request{Host: c.host, Header: http.Header{}}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if got := s.pageOf(r).allowed; got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
}

// What no browser sends is refused at start, not waited for.
func TestOriginsThatCanNeverMatch(t *testing.T) {
	for _, o := range []string{
		"example.com", "https://", "https://example.com/path", "https://example.com?x", "https://example.com#x",
		"https://u:p@example.com", "https://a.*.example.com",
		"https://*example.com", "https://*.*.example.com", "https://exa mple.com", "https://example.com:0",
		"https://example.com:99999", "https://example.com:x", "https://example.com:80:*",
		"wss://example.com", "ws://example.com", "", "https://*", "//example.com", "*.example.com", "localhost:5173",
		"https://exam\x00ple.com", "none", "Null",
	} {
		if _, err := parseAllowed([]string{o}); err == nil {
			t.Errorf("%q is accepted", o)
		}
	}
	err := (&Config{AllowedOrigins: []string{"wss://a.example", "example.com"}}).Validate()
	for _, want := range []string{"allowed-origins", `"wss://a.example"`, "write https://a.example", `"example.com"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// A trusted proxy may change the port in Host, leave it out, or say who was
// asked in headers of its own. Nobody else may.
func TestOriginBehindAProxy(t *testing.T) {
	for _, c := range []struct {
		name, origin, host string
		headers            http.Header
		want               bool // behind a trusted proxy
		direct             bool // of anybody else
	}{
		{"its own port", "https://a.example", "a.example:8443", nil, true, false},
		{"no port", "https://a.example:8443", "a.example", nil, true, false},
		{"another host", "https://b.example", "a.example", nil, false, false},
		{"another port of the same host", "http://a.example:5173", "a.example:5000", nil, false, false},
		{"X-Forwarded-Host", "https://a.example", "internal:8081", http.Header{"X-Forwarded-Host": {"a.example"}},
			true, false},
		{"X-Forwarded-Host with a port", "https://a.example:8443", "internal:8081",
			http.Header{"X-Forwarded-Host": {"a.example:8443"}}, true, false},
		{"a list of them", "https://a.example", "internal:8081",
			http.Header{"X-Forwarded-Host": {"a.example, proxy.internal"}}, true, false},
		{"X-Forwarded-Host of another", "https://b.example",
			"b.example", http.Header{"X-Forwarded-Host": {"a.example"}}, false, true},
		{"X-Forwarded-Port", "https://a.example:8443", "a.example", http.Header{"X-Forwarded-Port": {"8443"}},
			true, false},
		{"X-Forwarded-Port, the scheme's own", "https://a.example", "a.example:8081",
			http.Header{"X-Forwarded-Port": {"443"}}, true, false},
		{"X-Forwarded-Port of another", "https://a.example:5173", "a.example", http.Header{"X-Forwarded-Port": {"443"}},
			false, false},
	} {
		for trusted, want := range map[string]bool{"192.0.2.1": c.want, "198.51.100.1": c.direct} {
			s := &Service{}
			s.rules.Store(&rules{})
			if err := s.cfg.TrustedProxies.UnmarshalText([]byte(trusted)); err != nil {
				t.Fatal(err)
			}
			r := &http.Request{Host: c.host, RemoteAddr: "192.0.2.1:1234", Header: http.Header{"Origin": {c.origin}}}
			maps.Copy(r.Header, c.headers)
			if got := s.pageOf(r).allowed; got != want {
				t.Errorf("%s, trusting %s: got %t, want %t", c.name, trusted, got, want)
			}
		}
	}
}

// A page of another origin is refused before the handshake, with a reason.
func TestOriginRefused(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.AllowedOrigins = []string{"https://good.example"} })
	_, resp, err := g.try("", http.Header{"Origin": {"https://evil.example"}})
	if err == nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("got %v, %v; want 403", resp, err)
	}
	var p proto.Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Type != proto.ProblemOrigin.Type {
		t.Errorf("got %+v, %v", p, err)
	}
	c, _, err := g.try("", http.Header{"Origin": {"https://good.example"}})
	if err != nil {
		t.Fatal(err)
	}
	c.want(proto.FrameWelcome)
}
