package gateway

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// A page of an allowed origin may read the stream, and may send the headers
// that a plain EventSource does not.
func TestEventsAcrossOrigins(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.AllowedOrigins = []string{"https://app.example"} })
	e := g.events("", "Origin", "https://app.example")
	if got := e.resp.Header.Get("Access-Control-Allow-Origin"); got != "https://app.example" {
		t.Errorf("Access-Control-Allow-Origin: got %q", got)
	}
	for origin, want := range map[string]int{"https://app.example": http.StatusNoContent,
		"https://evil.example": http.StatusForbidden} {
		req, err := http.NewRequest(http.MethodOptions, "http://"+g.Addr().String()+"/sse", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		allowed := strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Last-Event-ID")
		if resp.StatusCode != want || allowed != (want == http.StatusNoContent) {
			t.Errorf("preflight from %s: got %s, headers allowed: %t; want %d", origin, resp.Status, allowed, want)
		}
	}
}

// Over HTTP/2 many streams share one connection.
func TestEventsOverHTTP2(t *testing.T) {
	certFile, keyFile, pool := certificate(t)
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.CertFile, c.KeyFile = certFile, keyFile })
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	var all []*source
	for range 20 {
		e := g.ask(client, "https://"+g.Addr().String(), "channel=a")
		if e.resp.ProtoMajor != 2 {
			t.Fatalf("got %s, want HTTP/2", e.resp.Proto)
		}
		e.want(proto.FrameWelcome)
		all = append(all, e)
	}
	last := b.publishMany(500, "a")
	for _, e := range all {
		e.ids(b.upTo(1, last, 1)...)
	}
	all[0].hangUp()
	natstest.Eventually(t, patience, "one stream of them has ended", func() bool { return g.conns.Len() == 19 })
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	for _, e := range all[1:] {
		if code := e.closed(); code != proto.CloseGoingAway {
			t.Errorf("got %v, want %v", code, proto.CloseGoingAway)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
}
