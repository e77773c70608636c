package httpx

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
)

func TestHealth(t *testing.T) {
	status, body := http.StatusOK, `{"status":"ready"}`
	s := startServer(t, ServerConfig{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{":" + port, "0.0.0.0:" + port, "127.0.0.1:" + port} {
		if err := Health(t.Context(), listen, "", ""); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
	status, body = http.StatusServiceUnavailable, `{"status":"not ready","reasons":["nats: not connected"]}`+"\n"
	if err := Health(t.Context(), ":"+port, "", ""); err == nil || err.Error() != "503 Service Unavailable: "+
		strings.TrimSpace(body) {
		t.Errorf("not ready: got %v", err)
	}
	for _, listen := range []string{"", "8080", ":1"} {
		begin := time.Now()
		if err := Health(t.Context(), listen, "", ""); err == nil || time.Since(begin) > 20*time.Second {
			t.Errorf("%q: got %v after %s", listen, err, time.Since(begin))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Health(ctx, ":"+port, "", ""); err == nil {
		t.Error("cancelled: no error")
	}
}

// A service with a certificate is asked over HTTPS, whatever name it is for,
// and nobody who shows another one is taken for it.
func TestHealthOverTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := pair(t, dir, "push.example.com")
	s := startServer(t, ServerConfig{CertFile: certFile, KeyFile: keyFile},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "ready")
		}))
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	otherCert, otherKey := pair(t, t.TempDir(), "push.example.com")
	garbage, missing := filepath.Join(dir, "garbage.pem"), filepath.Join(dir, "missing.pem")
	write(t, garbage, []byte("garbage"))
	for _, c := range []struct{ name, certFile, want string }{
		{"its own", certFile, ""},
		{"another", otherCert, "another certificate than " + otherCert},
		{"no certificate", otherKey, otherKey + " has no certificate"},
		{"garbage", garbage, garbage + " has no certificate"},
		{"no file", missing, "open " + missing},
		{"plain HTTP", "", "400 Bad Request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Health(t.Context(), ":"+port, c.certFile, "")
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	pair(t, dir, "push.example.com") // renewed
	natstest.Eventually(t, 30*time.Second, "the renewed certificate is the one", func() bool {
		return Health(t.Context(), ":"+port, certFile, "") == nil
	})
}
