//go:build compose

package deploy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/proctest"
)

// outside checks what a stranger gets to see.
func (s *stack) outside() {
	s.t.Helper()
	if page := proctest.Get(s.t, s.base+"/"); !strings.Contains(page, "<title>") {
		s.t.Errorf("the demo page: got %s", proctest.Tail(page, 200))
	}
	for _, path := range []string{"/metrics", "/%6Detrics", "/readyz", "/debug/pprof/", "/admin/",
		"/%61dmin/api/session"} {
		resp, err := http.Get(s.base + path)
		if err != nil {
			s.t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			s.t.Errorf("%s through the balancer: got %s, want 404", path, resp.Status)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(s.compose("ps", "--format", "{{.Service}} {{.Ports}}")),
		"\n") {
		for _, m := range regexp.MustCompile(`(\S+):\d+->`).FindAllStringSubmatch(line, -1) {
			if ip := net.ParseIP(m[1]); ip == nil || !ip.IsLoopback() {
				s.t.Errorf("a port is published beyond this machine: %s", line)
			}
		}
	}
}

// provoke connects a client whose counter is wanted in Prometheus, and leaves.
func (s *stack) provoke(query string) {
	s.t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(s.base, "http", "ws", 1)+"/ws?"+query, nil)
	if err != nil {
		s.t.Fatalf("connect with %s: %v", query, err)
	}
	defer func() { _ = ws.Close() }()
	if _, _, err := ws.ReadMessage(); err != nil {
		s.t.Errorf("connect with %s: %v", query, err)
	}
}

// newcomer follows a channel as a page does, and sends a message to it.
func (s *stack) newcomer(key string) {
	s.t.Helper()
	const channel = "public.newcomer" // none that others count
	ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(s.base, "http", "ws", 1)+"/ws?channel="+channel, nil)
	if err != nil {
		s.t.Fatalf("a newcomer connects: %v", err)
	}
	defer func() { _ = ws.Close() }()
	if !s.send(key, "/v1/channels/"+channel, "text/plain; charset=utf-8", "newcomer", "Hello, browser") {
		s.t.Fatal("the first message of a newcomer was not stored")
	}
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute)) // an open connection takes one
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			s.t.Fatalf("the first message of a newcomer did not come: %v", err)
		}
		if strings.Contains(string(frame), "Hello, browser") {
			return
		}
	}
}

// eventStream reads the first message as Server-Sent Events: the balancer holds
// none back.
func (s *stack) eventStream() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/sse?since=all&channel="+proto.Broadcast, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") && strings.Contains(lines.Text(), `"data":1,`) {
			return
		}
	}
	s.t.Error("/sse through the balancer: the first message did not come within a minute")
}

// withoutGateways stops them all, and checks what clients get meanwhile: an
// EventSource comes back only after a 200, and everybody else is told 503.
func (s *stack) withoutGateways() {
	s.t.Helper()
	s.compose("stop", "gateway")
	for path, want := range map[string]struct {
		status     int
		kind, body string
	}{
		"/sse":     {http.StatusOK, "text/event-stream", `^retry: \d{4}\n\n$`},
		"/ws":      {http.StatusServiceUnavailable, "application/problem+json", "urn:herald:problem:unavailable"},
		"/healthz": {http.StatusServiceUnavailable, "application/problem+json", ""},
	} {
		resp, err := http.Get(s.base + path)
		if err != nil {
			s.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want.status || resp.Header.Get("Content-Type") != want.kind ||
			!regexp.MustCompile(want.body).Match(body) {
			s.t.Errorf("%s without gateways: got %s, %q: %q, %v; want %d, %q: %q", path, resp.Status,
				resp.Header.Get("Content-Type"), body, err, want.status, want.kind, want.body)
		}
	}
}

// natsIsClosed checks that NATS wants its password from the other containers
// too, and that it syncs before it acknowledges.
func (s *stack) natsIsClosed() {
	s.t.Helper()
	hello := s.compose("exec", "-T", "nats", "sh", "-c",
		`(printf 'CONNECT {"verbose":false}\r\nPING\r\n'; sleep 1) | nc nats 4222`)
	if !strings.Contains(hello, "Authorization Violation") {
		s.t.Errorf("NATS without a password: got %q, want an authorization violation", hello)
	}
	vars := s.compose("exec", "-T", "nats", "wget", "-q", "-O", "-", "http://127.0.0.1:8222/varz")
	if !regexp.MustCompile(`"sync_always": *true`).MatchString(vars) {
		s.t.Error("NATS does not sync before it acknowledges")
	}
}
