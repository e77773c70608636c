package httpx

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHealth(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
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
		if err := Health(t.Context(), listen); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
	status, body = http.StatusServiceUnavailable, `{"status":"not ready","reasons":["nats: not connected"]}`+"\n"
	if err := Health(t.Context(), ":"+port); err == nil || err.Error() != "503 Service Unavailable: "+strings.TrimSpace(body) {
		t.Errorf("not ready: got %v", err)
	}
	for _, listen := range []string{"", "8080", ":1"} {
		begin := time.Now()
		if err := Health(t.Context(), listen); err == nil || time.Since(begin) > 4*time.Second {
			t.Errorf("%q: got %v after %s", listen, err, time.Since(begin))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Health(ctx, ":"+port); err == nil {
		t.Error("cancelled: no error")
	}
}
