package gateway

import (
	"encoding/json"
	"net/http"
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
		{"null", nil, "null", "a.example", false},
		{"null and no host", nil, "null", "", false},
		{"no URL", nil, "://", "a.example", false},
		{"on the list", []string{"https://b.example"}, "https://b.example", "a.example", true},
		{"on the list with a slash", []string{"https://b.example/"}, "https://b.example", "a.example", true},
		{"another scheme", []string{"https://b.example"}, "http://b.example", "a.example", false},
		{"all", []string{"*"}, "https://evil.example", "a.example", true},
		{"all, null", []string{"*"}, "null", "a.example", true},
	} {
		s := &Service{cfg: Config{AllowedOrigins: c.allowed}}
		r := &http.Request{Host: c.host, Header: http.Header{}}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if got := s.originAllowed(r); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
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
