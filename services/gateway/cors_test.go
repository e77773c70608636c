package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

// call is one request as a browser makes it.
func (g *gate) call(method, path string, header http.Header) (*http.Response, string) {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://"+g.Addr().String()+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(b)
}

func TestCORS(t *testing.T) {
	b := newBroker(t)
	listed := b.gatewayWith(pages, func(c *Config) { c.AllowedOrigins = []string{page1, "null"} })
	everybody := b.gatewayWith(pages, func(c *Config) { c.AllowedOrigins = []string{"*", page1} })
	for _, c := range []struct {
		name, origin     string
		g                *gate
		want, credential string
	}{
		{"on the list", page1, listed, page1, "true"},
		{"null", "null", listed, "null", ""},
		{"another", "https://evil.example", listed, "", ""},
		{"anybody", "https://evil.example", everybody, "*", ""},
		{"anybody, null", "null", everybody, "*", ""},
		{"anybody, and on the list", page1, everybody, page1, "true"},
		{"no page", "", everybody, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := http.Header{}
			if c.origin != "" {
				header.Set("Origin", c.origin)
			}
			check := func(what string, resp *http.Response) {
				t.Helper()
				h := resp.Header
				if got := h.Get("Access-Control-Allow-Origin"); got != c.want ||
					h.Get("Access-Control-Allow-Credentials") != c.credential ||
					!strings.Contains(strings.Join(h.Values("Vary"), ","), "Origin") {
					t.Errorf("%s: got %s %v; want origin %q, credentials %q", what, resp.Status, h, c.want,
						c.credential)
				}
			}
			module, body := c.g.call(http.MethodGet, "/client/herald.js", header)
			if module.StatusCode != http.StatusOK || body != "// client" {
				t.Errorf("the client: got %s %q", module.Status, body)
			}
			check("the client", module)
			if c.want == "" && c.origin != "" {
				return
			}
			stream, _ := c.g.call(http.MethodHead, "/sse", header)
			check("the stream", stream)
			header.Set("Access-Control-Request-Method", "GET")
			header.Set("Access-Control-Request-Headers", "authorization,baggage,traceparent,x-of-mine")
			for _, path := range []string{"/sse", "/client/herald.js"} {
				preflight, _ := c.g.call(http.MethodOptions, path, header)
				if got := preflight.Header.Get(
					"Access-Control-Allow-Headers"); preflight.StatusCode != http.StatusNoContent ||
					got != "authorization,baggage,traceparent,x-of-mine" {
					t.Errorf("preflight of %s: got %s %v", path, preflight.Status, preflight.Header)
				}
				check("preflight of "+path, preflight)
			}
		})
	}
}

// The operator learns which setting a refused page needs, once per origin.
func TestRefusedOriginsAreReportedOnce(t *testing.T) {
	b := newBroker(t)
	g := b.gatewayWith(pages)
	const msg = "a page of another origin was refused; if it may connect, add its origin to HERALD_ALLOWED_ORIGINS " +
		"(-allowed-origins)"
	dev := http.Header{"Origin": {"http://localhost:5173"}}
	for range 3 {
		if _, resp, err := g.try("", dev); err == nil || resp.StatusCode != http.StatusForbidden {
			t.Fatalf("got %v, %v; want 403", resp, err)
		}
		g.call(http.MethodGet, "/sse", dev)
		g.call(http.MethodGet, "/client/herald.js", dev)
	}
	if got := g.log.With(msg); len(got) != 1 || got[0]["origin"] != "http://localhost:5173" ||
		got[0]["level"] != "WARN" {
		t.Errorf("got %v, want one line", got)
	}
	for i := range 2 * maxStrangers {
		g.call(http.MethodGet, "/sse", http.Header{"Origin": {fmt.Sprintf("http://%d.example", i)}})
	}
	if got := g.log.With(msg); len(got) != maxStrangers {
		t.Errorf("got %d lines, want %d", len(got), maxStrangers)
	}
	if n := strings.Count(g.log.String(), "further origins that are refused are not reported"); n != 1 {
		t.Errorf("got %d lines about the rest, want one", n)
	}
}

func TestForwardedForOfAStranger(t *testing.T) {
	b := newBroker(t)
	warned := func(g *gate) int { return strings.Count(g.log.String(), "HERALD_TRUSTED_PROXIES") }
	g := b.gateway()
	g.connect("")
	if n := warned(g); n != 0 {
		t.Errorf("without the header: got %d lines", n)
	}
	for range 3 {
		c, _, err := g.try("", http.Header{"X-Forwarded-For": {"203.0.113.9"}})
		if err != nil {
			t.Fatal(err)
		}
		c.want(proto.FrameWelcome)
	}
	if n := warned(g); n != 1 {
		t.Errorf("got %d lines, want one", n)
	}
	trusting := b.gateway(func(c *Config) {
		if err := c.TrustedProxies.UnmarshalText([]byte("127.0.0.1")); err != nil {
			t.Fatal(err)
		}
	})
	c, _, err := trusting.try("", http.Header{"X-Forwarded-For": {"[2001:db8::7]"}})
	if err != nil {
		t.Fatal(err)
	}
	c.want(proto.FrameWelcome)
	if got := trusting.log.With("client connected"); warned(trusting) != 0 || len(got) != 1 ||
		got[0]["remote"] != "2001:db8::7" {
		t.Errorf("got %v", got)
	}
}

// HEAD answers as GET does, without a body.
func TestHead(t *testing.T) {
	b := newBroker(t)
	b.shelf()
	g := b.gatewayWith(pages)
	g.becomesReady()
	for path, want := range map[string]int{
		"/": 200, "/client/herald.js": 200, "/favicon.ico": 200, "/nothing": 404, "/healthz": 200, "/readyz": 200,
		"/metrics": 404, "/debug/pprof/": 404,
		"/sse": 200, "/sse?x=1": 400, "/ws": http.StatusUpgradeRequired,
	} {
		get := http.Header{}
		if path != "/sse" { // which does not end
			resp, _ := g.call(http.MethodGet, path, nil)
			get = resp.Header
			if resp.StatusCode != want {
				t.Errorf("GET %s: got %s", path, resp.Status)
			}
		}
		resp, body := g.call(http.MethodHead, path, nil)
		if kind := resp.Header.Get("Content-Type"); resp.StatusCode != want || body != "" || path != "/sse" &&
			kind != get.Get("Content-Type") {
			t.Errorf("HEAD %s: got %s, %s, %q; want %d, %s", path, resp.Status, kind, body, want,
				get.Get("Content-Type"))
		}
	}
}
