package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
	"github.com/herald-push/herald/services/internal/service"
	"github.com/herald-push/herald/services/internal/service/servicetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if err := service.Run(t.Context(), spec(), []string{"-h"}, configtest.Env("HERALD_API_KEY", "not-to-be-shown-000"),
		&out,
		io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"-listen", "HERALD_LISTEN", "(default :8080)", "HERALD_API_KEY, HERALD_API_KEY_FILE", "-trusted-proxies",
		"-stream-max-age", "(default 24h)",
		"-stream-max-bytes", "(default 1GiB)", "-replicas", "-max-message-bytes", "(default 64KiB)",
		"-max-request-bytes", "(default 8MiB)",
		"-drain", "(default 10s)", "-nats", "HERALD_NATS_URL", "-log-level", "-log-format", "-version", "-health",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help has no %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "not-to-be-shown") {
		t.Error("help shows a secret")
	}
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	if err := service.Run(t.Context(), spec(), []string{"-version"}, configtest.Env(), &out, io.Discard); err != nil ||
		strings.TrimSpace(out.String()) == "" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

// What is wrong with the settings is told in sentences, all at once, before
// anything starts.
func TestBadConfig(t *testing.T) {
	servicetest.Faults(t, spec, []servicetest.Fault{
		{Args: []string{"-port", "1"}, Want: []string{"-port", "ingest -h"}},
		{Args: []string{"serve"}, Want: []string{`"serve"`, "ingest -h"}},
		{Args: []string{"-drain", "soon", "-replicas", "many"}, Want: []string{"-drain", "10s", "-replicas",
			"whole number"}},
		{Args: []string{"-listen="}, Want: []string{"listen"}},
		{Env: []string{"HERALD_API_KEY", "changeme"}, Want: []string{"HERALD_API_KEY", "16"}},
		{Env: []string{"HERALD_API_KEY", "your-api-key-your-api-key"}, Want: []string{"HERALD_API_KEY", "placeholder"}},
		{Env: []string{"HERALD_API_KEY_FILE", filepath.Join(t.TempDir(), "none")},
			Want: []string{"HERALD_API_KEY_FILE"}},
		{Args: []string{"-max-message-bytes", "1"}, Env: []string{"HERALD_STREAM_MAX_AGE", "1ms"},
			Want: []string{"max-message-bytes", "stream-max-age"}},
		{Args: []string{"-log-level", "loud"}, Want: []string{"log level"}},
		{Args: []string{"-trusted-proxies", "everybody"}, Want: []string{"-trusted-proxies", "everybody"}},
		{Args: []string{"-health", "-listen", "127.0.0.1:1"}, Want: []string{"ask for readiness"}},
	})
}

// Told to stop while it waits for NATS, the process ends in peace.
func TestStopWhileWaiting(t *testing.T) { servicetest.StopsWhileWaiting(t, spec) }

// A process that starts while NATS is away is alive and not ready, answers
// with 503, and works as soon as NATS is there.
func TestStartWithoutNATS(t *testing.T) {
	server := natstest.Start(t)
	server.Stop()
	listen, key := "127.0.0.1:"+proctest.FreePort(t), "hk_2b7d0c94e6f1a83575ce"
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- service.Run(ctx, spec(), []string{"-listen", listen}, configtest.Env("HERALD_NATS_URL", server.URL,
			"HERALD_API_KEY",
			key), io.Discard, io.Discard)
	}()
	ask := func(path string) (status int, body string) {
		resp, err := http.Get("http://" + listen + path)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	natstest.Eventually(t, 30*time.Second, "alive",
		func() bool { status, _ := ask("/healthz"); return status == http.StatusOK })
	if status, body := ask("/readyz"); status != http.StatusServiceUnavailable || strings.Contains(body, "NATS") {
		t.Errorf("/readyz: got %d %s, want 503 without the reason", status, body)
	}
	if got := post(t, listen, key); got != http.StatusServiceUnavailable {
		t.Errorf("publish: got %d, want 503", got)
	}
	server.Restart()
	natstest.Eventually(t, 30*time.Second, "ready",
		func() bool { status, _ := ask("/readyz"); return status == http.StatusOK })
	if got := post(t, listen, key); got != http.StatusOK {
		t.Errorf("publish: got %d, want 200", got)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}

// The whole life: start without a key, be ready, publish with the key from
// the banner, be told to stop, stop.
func TestRun(t *testing.T) {
	server := natstest.Start(t)
	listen := "127.0.0.1:" + proctest.FreePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	var out, logged logtest.Buffer
	ended := make(chan error, 1)
	go func() {
		ended <- service.Run(ctx, spec(), []string{"-listen", listen}, configtest.Env("HERALD_NATS_URL", server.URL),
			&out, &logged)
	}()
	natstest.Eventually(t, 30*time.Second, "-health says ready", func() bool {
		return service.Run(ctx, spec(), []string{"-health", "-listen", listen}, configtest.Env(), io.Discard,
			io.Discard) == nil
	})
	m := regexp.MustCompile(`API key: (hk_[a-z2-7]+)\n`).FindStringSubmatch(out.String())
	if m == nil {
		t.Fatalf("no banner:\n%s", out.String())
	}
	if got := post(t, listen, m[1]); got != http.StatusOK {
		t.Errorf("publish: got %d, want 200", got)
	}
	if got := post(t, listen, "wrong"); got != http.StatusUnauthorized {
		t.Errorf("publish with a wrong key: got %d, want 401", got)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if strings.Contains(logged.String(), m[1]) {
		t.Error("the log has the key")
	}
	for _, want := range []string{`"msg":"listening"`, `"service":"ingest"`, `"msg":"stopping"`} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, logged.String())
		}
	}
	// Once more: the key holds, and no other is shown.
	before := out.String()
	ctx, cancel = context.WithCancel(t.Context())
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, []byte("0123456789-abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		ended <- service.Run(ctx, spec(), []string{"-listen", listen},
			configtest.Env("HERALD_NATS_URL", server.URL, "HERALD_API_KEY_FILE", secret), &out, &logged)
	}()
	natstest.Eventually(t, 30*time.Second, "ready again", func() bool {
		return service.Run(ctx, spec(), []string{"-health"}, configtest.Env("HERALD_LISTEN", listen), io.Discard,
			io.Discard) == nil
	})
	for _, key := range []string{m[1], "0123456789-abcdef"} {
		if got := post(t, listen, key); got != http.StatusOK {
			t.Errorf("publish after a restart: got %d, want 200", got)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if out.String() != before {
		t.Errorf("a second banner:\n%s", out.String())
	}
}

func post(t *testing.T, listen, key string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://%s/v1/channels/alerts", listen),
		strings.NewReader("disk full"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-KEY", key)
	req.Header.Set("Content-Type", "text/plain")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}
