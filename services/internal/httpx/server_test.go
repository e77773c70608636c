package httpx

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/logtest"
)

// startServer runs a server on a free port until the test ends.
func startServer(t *testing.T, cfg ServerConfig, h http.Handler) *Server {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	s, err := NewServer(cfg, h, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // waited for in Cleanup
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// talk sends raw bytes and returns everything that comes back until the
// server closes; that it does not is an error.
func talk(t *testing.T, s *Server, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	_, err = io.Copy(&got, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server left the connection open after %.200q", got.String())
	}
	return got.String()
}

func TestServerServesAndStops(t *testing.T) {
	s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0"},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "hello")
		}), quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	res, err := http.Get("http://" + s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if string(b) != "hello" {
		t.Errorf("got %q", b)
	}
	cancel() // the client's connection is idle and must not hold it up
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("did not stop")
	}
	http.DefaultClient.CloseIdleConnections()
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("still accepts")
	}
}

func TestServerStopsBeforeItBegan(t *testing.T) {
	s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0"}, http.NotFoundHandler(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("still listens")
	}
}

func TestServerClose(t *testing.T) {
	s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0"}, http.NotFoundHandler(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), s.Addr().String()) {
		t.Errorf("Run on a closed listener: got %v, want an error with the address", err)
	}
}

// Requests under way may finish within the grace period, and are cut off after it.
func TestServerGrace(t *testing.T) {
	for _, c := range []struct {
		name   string
		finish bool
	}{{"finishes", true}, {"is cut off", false}} {
		t.Run(c.name, func(t *testing.T) {
			entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
			grace := time.Minute
			if !c.finish {
				grace = 100 * time.Millisecond
			}
			s, err := NewServer(ServerConfig{Listen: "127.0.0.1:0", Grace: grace},
				http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer close(left)
					close(entered)
					select {
					case <-leave:
						_, _ = io.WriteString(w, "done")
					case <-r.Context().Done():
					}
				}), quiet)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			answer := make(chan string, 1)
			go func() {
				res, err := http.Get("http://" + s.Addr().String())
				if err != nil {
					answer <- "cut off"
					return
				}
				b, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				answer <- string(b)
			}()
			<-entered
			cancel()
			if c.finish {
				select {
				case err := <-done:
					t.Errorf("stopped at once: %v", err)
				case <-time.After(50 * time.Millisecond):
				}
				close(leave)
			}
			want := map[bool]string{true: "done", false: "cut off"}[c.finish]
			if got := <-answer; got != want {
				t.Errorf("the client got %q, want %q", got, want)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			<-left
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	s := startServer(t, ServerConfig{ReadTimeout: 200 * time.Millisecond},
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			t.Error("a request with half a header was handled")
		}))
	for name, raw := range map[string]string{"nothing": "", "half a line": "GET / HT",
		"half a header": "GET / HTTP/1.1\r\nHost: x\r\nX-A: "} {
		if got := talk(t, s, raw); strings.Contains(got, " 200 ") {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestHugeHeaderIsRefused(t *testing.T) {
	s := startServer(t, ServerConfig{},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	head := func(n int) string {
		return "GET /?token=" + strings.Repeat("a", n) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	}
	if got := talk(t, s, head(8<<10)); !strings.HasPrefix(got, "HTTP/1.1 204") {
		t.Errorf("the longest token: got %.100q", got)
	}
	if got := talk(t, s, head(64<<10)); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("64 KiB: got %.100q", got)
	}
	for name, raw := range map[string]string{
		"header-too-large":  head(64 << 10),
		"invalid-parameter": "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
	} {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(talk(t, s, raw))), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var p proto.Problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Type != "urn:herald:problem:"+name ||
			p.Status != resp.StatusCode || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %s %v %+v, %v", name, resp.Status, resp.Header, p, err)
		}
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	s := startServer(t, ServerConfig{}, http.NotFoundHandler())
	addr := s.Addr().String()
	_, err := NewServer(ServerConfig{Listen: addr}, http.NotFoundHandler(), quiet)
	if err == nil || !strings.HasPrefix(err.Error(), "listen on "+addr+":") ||
		!strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

func TestServerLogGoesToDebug(t *testing.T) {
	var out logtest.Buffer
	e := errorLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if n, err := e.Write([]byte("http: TLS handshake error\n")); n != 26 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if !strings.Contains(out.String(), `level=DEBUG msg="http server" err="http: TLS handshake error"`) {
		t.Errorf("got %s", out.String())
	}
}
