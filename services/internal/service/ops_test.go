package service

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/telemetry"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func operators(t *testing.T, c OpsConfig) (*httpx.Server, error) {
	t.Helper()
	registry := telemetry.NewRegistry("test")
	ops := telemetry.NewOps(registry)
	ops.AddCheck("store", func(context.Context) error { return io.ErrUnexpectedEOF })
	s, err := c.Server(ops, slog.New(slog.DiscardHandler))
	if s == nil {
		return s, err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // ends with stop
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, err
}

func get(t *testing.T, s *httpx.Server, path string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+s.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(header) == 2 {
		req.Header.Set(header[0], header[1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// The operators' port has everything, profiles for this machine only.
func TestOperatorsPort(t *testing.T) {
	s, err := operators(t, OpsConfig{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/healthz": `"ok"`, "/readyz": "store: unexpected EOF",
		"/metrics": "herald_build_info", "/debug/pprof/cmdline": "service.test"} {
		if status, body := get(t, s, path); status == http.StatusNotFound || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %.200s, want %s", path, status, body, want)
		}
	}
	if status, _ := get(t, s, "/debug/pprof/cmdline", "X-Forwarded-For", "192.0.2.1"); status != http.StatusNotFound {
		t.Errorf("a profile through a proxy: got %d", status)
	}
}

// A default that is taken gives way; what somebody chose does not, and is named.
func TestOperatorsPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	addr := taken.Addr().String()
	s, err := operators(t, NewOpsConfig(addr))
	if err != nil || s.Addr().String() == addr || !strings.HasPrefix(s.Addr().String(), "127.0.0.1:") {
		t.Errorf("the default: got %v", err)
	}
	if _, err := operators(t, OpsConfig{Listen: addr, Default: "127.0.0.1:1"}); err == nil ||
		!strings.Contains(err.Error(), addr) {
		t.Errorf("a choice: got %v, want an error with the address", err)
	}
	if s, err := operators(t, OpsConfig{}); s != nil || err != nil {
		t.Errorf("none: got %v, %v", s, err)
	}
}
