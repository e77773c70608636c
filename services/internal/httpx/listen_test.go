package httpx

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A server that runs moves to another address and to HTTPS, where HTTP/2 is spoken, while
// a connection of the old address goes on; the old port is free afterwards.
func TestServerMoves(t *testing.T) {
	release := make(chan struct{})
	s := startServer(t, ServerConfig{Listen: "127.0.0.1:0"},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				_, _ = io.WriteString(w, "begun ")
				_ = http.NewResponseController(w).Flush()
				<-release
			}
			_, _ = io.WriteString(w, r.Proto)
		}))
	old := s.First()
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	long, err := plain.Get("http://" + old.Addr().String() + "/long")
	if err != nil {
		t.Fatal(err)
	}
	cert, key := pair(t, t.TempDir(), "a")
	for _, c := range []struct{ address, cert, want string }{
		{old.Addr().String(), cert, "address already in use; another program has the port"},
		{"127.0.0.1:0", cert + ".gone", cert + ".gone"},
	} {
		if _, err := s.Listen(c.address, c.cert, key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("listen on %s with %s: got %v", c.address, c.cert, err)
		}
	}
	l, err := s.Listen("127.0.0.1:0", cert, key)
	if err != nil {
		t.Fatal(err)
	}
	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true}}
	defer secure.CloseIdleConnections()
	ask := func(client *http.Client, url string) string {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	if got := ask(secure, "https://"+l.Addr().String()); got != "HTTP/2.0" || !l.Secure() {
		t.Errorf("the new address: got %s", got)
	}
	if got := ask(plain, "http://"+old.Addr().String()); got != "HTTP/1.1" || old.Secure() {
		t.Errorf("the old address beside it: got %s", got)
	}
	s.Prefer(l)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ask(plain, "http://"+old.Addr().String()); !strings.Contains(got, "refused") {
		t.Errorf("the old address, closed: got %s", got)
	}
	if s.Addr().String() != l.Addr().String() {
		t.Errorf("the server says that it listens on %s", s.Addr())
	}
	close(release)
	if b, err := io.ReadAll(long.Body); string(b) != "begun HTTP/1.1" || err != nil {
		t.Errorf("the answer under way: got %s, %v", b, err)
	}
	_ = long.Body.Close()
	again, err := s.Listen(old.Addr().String(), "", "")
	if err != nil {
		t.Fatalf("back to the old address: %v", err)
	}
	if got := ask(plain, "http://"+again.Addr().String()); got != "HTTP/1.1" {
		t.Errorf("back at the old address: got %s", got)
	}
}
