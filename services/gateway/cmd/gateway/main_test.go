package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
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
	if err := service.Run(t.Context(), spec(), []string{"-h"},
		configtest.Env("HERALD_JWT_SECRET", "not-to-be-shown-000"), &out,
		io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"-listen", "HERALD_LISTEN", "(default :8081)", "HERALD_JWT_SECRET, HERALD_JWT_SECRET_FILE", "-jwks",
		"-anonymous-channels", "(default broadcast,public.>)",
		"-allowed-origins", "-max-connections-per-ip", "(default 2000)", "-trusted-proxies", "-drain", "(default 10s)",
		"-heartbeat", "(default 25s)",
		"-max-queue-bytes", "-compress-above", "-recent-messages", "-recent-bytes", "-replay-messages", "-replay-bytes",
		"-tls-cert", "-tls-key",
		"-nats", "HERALD_NATS_URL", "-log-level", "-log-format", "-version", "-health",
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
		{Args: []string{"-port", "1"}, Want: []string{"-port", "gateway -h"}},
		{Args: []string{"serve"}, Want: []string{`"serve"`, "gateway -h"}},
		{Args: []string{"-drain", "soon", "-heartbeat", "500ms"}, Want: []string{"-drain", "10s", "heartbeat",
			"whole number of seconds"}},
		{Args: []string{"-listen="}, Want: []string{"listen"}},
		{Env: []string{"HERALD_JWT_SECRET", "changeme"}, Want: []string{"HERALD_JWT_SECRET", "32"}},
		{Env: []string{"HERALD_JWT_SECRET_FILE", filepath.Join(t.TempDir(), "none")},
			Want: []string{"HERALD_JWT_SECRET_FILE"}},
		{Env: []string{"HERALD_ANONYMOUS_CHANNELS", "a..b"}, Want: []string{"anonymous-channels"}},
		{Args: []string{"-tls-cert", "cert.pem"}, Want: []string{"tls-key"}},
		{Args: []string{"-nats-cert", "cert.pem"}, Want: []string{"nats-key"}},
		{Env: []string{"HERALD_NATS_CA", "none.pem"}, Want: []string{"nats-ca", "none.pem"}},
		{Args: []string{"-log-level", "loud"}, Want: []string{"log level"}},
		{Args: []string{"-health", "-listen", "127.0.0.1:1"}, Want: []string{"ask for readiness"}},
	})
}

// Told to stop while it waits for NATS, the process ends in peace.
func TestStopWhileWaiting(t *testing.T) { servicetest.StopsWhileWaiting(t, spec) }

// A process that starts while NATS is away is alive and not ready, and follows
// the stream as soon as it is there.
func TestStartWithoutNATS(t *testing.T) {
	server := natstest.Start(t)
	server.Stream(server.Connect())
	server.Stop()
	listen, ops := "127.0.0.1:"+proctest.FreePort(t), "127.0.0.1:"+proctest.FreePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- service.Run(ctx, spec(), []string{"-listen", listen, "-ops-listen", ops},
			configtest.Env("HERALD_NATS_URL", server.URL),
			io.Discard, io.Discard)
	}()
	status := func(path string) int {
		resp, err := http.Get("http://" + listen + path)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	natstest.Eventually(t, 30*time.Second, "alive", func() bool { return status("/healthz") == http.StatusOK })
	if got := proctest.Get(t, "http://"+listen+"/readyz"); strings.Contains(got, "NATS") {
		t.Errorf("/readyz: got %s, want no reason on the public port", got)
	}
	if got := proctest.Get(t, "http://"+ops+"/readyz"); !strings.Contains(got, "not connected to NATS") {
		t.Errorf("/readyz: got %s, want the reason", got)
	}
	err := service.Run(ctx, spec(), []string{"-health", "-listen", listen, "-ops-listen", ops}, configtest.Env(),
		io.Discard,
		io.Discard)
	if err == nil || !strings.Contains(err.Error(), "not connected to NATS") {
		t.Errorf("-health: got %v, want the reason", err)
	}
	server.Restart()
	natstest.Eventually(t, 30*time.Second, "ready", func() bool { return status("/readyz") == http.StatusOK })
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}

// The whole life: start, be ready, show the page, carry a message, be told to
// stop, say goodbye, stop.
func TestRun(t *testing.T) {
	server := natstest.Start(t)
	js, _ := server.Stream(server.Connect())
	listen, ops := "127.0.0.1:"+proctest.FreePort(t), "127.0.0.1:"+proctest.FreePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	var logged logtest.Buffer
	ended := make(chan error, 1)
	go func() {
		ended <- service.Run(ctx, spec(), []string{"-listen", listen, "-ops-listen", ops},
			configtest.Env("HERALD_NATS_URL", server.URL),
			io.Discard, &logged)
	}()
	natstest.Eventually(t, 30*time.Second, "-health says ready", func() bool {
		return service.Run(ctx, spec(), []string{"-health", "-listen", listen}, configtest.Env(), io.Discard,
			io.Discard) == nil
	})
	for path, want := range map[string]string{"/": "<title>Herald</title>", "/client/herald.js": "WebSocket",
		"/healthz": `"status":"ok"`} {
		if got := proctest.Get(t, "http://"+listen+path); !strings.Contains(got, want) {
			t.Errorf("%s has no %q: %.200q", path, want, got)
		}
	}
	if got := proctest.Get(t, "http://"+ops+"/metrics"); !strings.Contains(got, "herald_gateway_connections 0") {
		t.Errorf("/metrics: %.200q", got)
	}
	http.DefaultClient.CloseIdleConnections()

	ws, _, err := websocket.DefaultDialer.Dial("ws://"+listen+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.Close() }()
	read := func() (string, error) {
		_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
		for {
			_, b, err := ws.ReadMessage()
			// A position frame comes before a drain and with each heartbeat.
			if err != nil || !bytes.Contains(b, []byte(`"type":"position"`)) {
				return string(b), err
			}
		}
	}
	if got, err := read(); err != nil || !strings.Contains(got, `"welcome"`) {
		t.Fatalf("got %s, %v; want the welcome", got, err)
	}
	m := proto.Message{Channel: "broadcast", Event: "message", Data: json.RawMessage(`"hello"`), Sender: "test",
		Time: proto.FormatTime(time.Now())}
	if _, err := js.PublishMsg(t.Context(), natstest.NewMsg(&m, natstest.Headers{}, false)); err != nil {
		t.Fatal(err)
	}
	if got, err := read(); err != nil || !strings.Contains(got, `"data":"hello"`) {
		t.Errorf("got %s, %v; want the message", got, err)
	}
	cancel()
	if got, err := read(); !websocket.IsCloseError(err, int(proto.CloseGoingAway)) {
		t.Errorf("got %s, %v; want %d", got, err, proto.CloseGoingAway)
	}
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	for _, want := range []string{`"msg":"listening"`, `"service":"gateway"`, `"msg":"client connected"`,
		`"msg":"stopping"`} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, logged.String())
		}
	}
}
