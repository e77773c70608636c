package natsd_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natsd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func start(t *testing.T, cfg natsd.Config) (*natsd.Server, *logtest.Buffer) {
	t.Helper()
	var out logtest.Buffer
	s, err := natsd.Start(cfg, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s, &out
}

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestDataSurvivesRestart(t *testing.T) {
	for name, sync := range map[string]time.Duration{"fsync before each ack": 0, "fsync every minute": time.Minute} {
		t.Run(name, func(t *testing.T) {
			cfg := natsd.Config{Dir: filepath.Join(t.TempDir(), "made", "here"), SyncInterval: sync}
			s, out := start(t, cfg)
			js, err := jetstream.New(connect(t, "", s.InProcess()))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := js.CreateStream(ctx,
				jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
				t.Fatal(err)
			}
			ack, err := js.Publish(ctx, "s.a", []byte("kept"))
			if err != nil {
				t.Fatal(err)
			}
			s.Shutdown()
			s, _ = start(t, cfg)
			js, err = jetstream.New(connect(t, "", s.InProcess()))
			if err != nil {
				t.Fatal(err)
			}
			stream, err := js.Stream(ctx, "S")
			if err != nil {
				t.Fatal(err)
			}
			if m, err := stream.GetMsg(ctx, ack.Sequence); err != nil || string(m.Data) != "kept" {
				t.Errorf("got %v, %v", m, err)
			}
			if out.String() != "" {
				t.Errorf("it warns: %s", out.String())
			}
		})
	}
}

func TestInProcessNeedsNoPort(t *testing.T) {
	s, _ := start(t, natsd.Config{Dir: t.TempDir()})
	if s.Port() != 0 {
		t.Errorf("listens on %d", s.Port())
	}
	nc := connect(t, "", s.InProcess())
	if _, err := nc.RTT(); err != nil {
		t.Error(err)
	}
}

func TestPasswordIsNeeded(t *testing.T) {
	s, _ := start(t, natsd.Config{Dir: t.TempDir(), Port: -1, User: "herald", Password: "right"})
	if want := fmt.Sprintf("nats://127.0.0.1:%d", s.Port()); s.Port() == 0 || s.URL() != want {
		t.Errorf("URL: got %s, want %s", s.URL(), want)
	}
	for name, opts := range map[string][]nats.Option{"none": nil, "wrong": {nats.UserInfo("herald", "wrong")},
		"wrong user": {nats.UserInfo("root", "right")}} {
		if nc, err := nats.Connect(s.URL(), opts...); err == nil ||
			!strings.Contains(err.Error(), "Authorization Violation") {
			t.Errorf("password %s: got %v", name, err)
			if err == nil {
				nc.Close()
			}
		}
	}
	connect(t, s.URL(), nats.UserInfo("herald", "right"))
	connect(t, "", s.InProcess()) // knows it
}

func TestPortWithoutPasswordIsRefused(t *testing.T) {
	for _, cfg := range []natsd.Config{{Port: -1}, {Port: -1, User: "herald"}, {Port: -1, Password: "right"}} {
		cfg.Dir = t.TempDir()
		if s, err := natsd.Start(cfg, slog.New(slog.DiscardHandler)); err == nil ||
			!strings.Contains(err.Error(), "needs a user and a password") {
			t.Errorf("got %v", err)
			if err == nil {
				s.Shutdown()
			}
		}
	}
}

func TestPortInUseIsNamedAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir, begin := t.TempDir(), time.Now()
	_, err = natsd.Start(natsd.Config{Dir: dir, Port: l.Addr().(*net.TCPAddr).Port, User: "u", Password: "p"},
		slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) ||
		!strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestUnusableFolderIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := natsd.Start(natsd.Config{Dir: file}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "directory") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestShutdownTwice(t *testing.T) {
	s, _ := start(t, natsd.Config{Dir: t.TempDir()})
	s.Shutdown()
	s.Shutdown()
}
