package gateway

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// The pages as the module web has them, in small.
var pages = fstest.MapFS{
	"demo/index.html":   {Data: []byte("<!doctype html><title>demo</title>\n  <a href=\"admin/\">Console</a>")},
	"demo/demo.js":      {Data: []byte("// demo")},
	"client/herald.js":  {Data: []byte("// client")},
	"shared/tokens.css": {Data: []byte(":root{}")},
	"admin/index.html":  {Data: []byte("not for everybody")},
	"favicon.ico":       {Data: []byte("built-in icon")},
}

func TestPages(t *testing.T) {
	t.Chdir(t.TempDir()) // where the operator's favicon is looked for
	b := newBroker(t)
	g := b.gatewayWith(pages)
	get := func(path string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "http://"+g.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req) // as it is, without following redirects
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	for _, c := range []struct {
		path, kind, body string // kind "": not found
	}{
		{"/", "text/html", "<!doctype html><title>demo</title>"},
		{"/demo/index.html", "text/html", "<!doctype html><title>demo</title>"},
		{"/demo/demo.js", "text/javascript", "// demo"},
		{"/client/herald.js", "text/javascript", "// client"},
		{"/shared/tokens.css", "text/css", ":root{}"},
		{"/demo/", "", ""},
		{"/demo", "", ""},
		{"/demo/nothing.js", "", ""},
		{"/admin/index.html", "", ""},
		{"/demo/../admin/index.html", "", ""},
		{"/demo/%2e%2e/admin/index.html", "", ""},
		{"/demo/..%2fadmin%2findex.html", "", ""},
		{"/demo//index.html", "", ""},
		{"/demo/..\\..\\go.mod", "", ""},
		{"/demo/../../go.mod", "", ""},
	} {
		resp, body := get(c.path)
		if c.kind == "" {
			if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: got %s, %.60q; want a 404 problem", c.path, resp.Status, body)
			}
			continue
		}
		if resp.StatusCode != http.StatusOK || body != c.body ||
			!strings.HasPrefix(resp.Header.Get("Content-Type"), c.kind) {
			t.Errorf("%s: got %s, %s, %.60q", c.path, resp.Status, resp.Header.Get("Content-Type"), body)
		}
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") ||
			strings.Contains(policy, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", c.path, policy)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: no nosniff", c.path)
		}
	}

	if _, body := get("/favicon.ico"); body != "built-in icon" {
		t.Errorf("favicon: got %q", body)
	}
	if err := os.Mkdir("config", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{"config/favicon.ico", "favicon.ico"} {
		if err := os.WriteFile(own, []byte(own), 0o600); err != nil {
			t.Fatal(err)
		}
		if resp, body := get("/favicon.ico"); body != own || resp.Header.Get("Content-Type") != "image/x-icon" {
			t.Errorf("favicon: got %q as %s, want %q", body, resp.Header.Get("Content-Type"), own)
		}
	}
}

// Without pages there is only the socket.
func TestNoPages(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	resp, err := http.Get("http://" + g.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("got %s", resp.Status)
	}
}

// The demo page offers the console to who may open it, and to nobody where there is none.
func TestConsoleLink(t *testing.T) {
	t.Chdir(t.TempDir())
	b := newBroker(t)
	g := b.gatewayWith(pages)
	offered := func() bool {
		t.Helper()
		_, body := g.call(http.MethodGet, "/", nil)
		if !strings.Contains(body, "demo") {
			t.Fatalf("got %s", body)
		}
		return strings.Contains(body, "admin/")
	}
	if offered() {
		t.Error("offered where there is none")
	}
	for _, open := range []bool{true, false} {
		g.deps.Console = func(*http.Request) bool { return open }
		if offered() != open {
			t.Errorf("offered: %t, want %t", !open, open)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
