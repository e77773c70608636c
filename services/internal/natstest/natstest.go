// Package natstest gives a test its own nats-server with JetStream in a
// temporary folder, and removes it.
package natstest

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natsd"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Server is a real nats-server that a test may stop and start again over the
// same folder and port.
type Server struct {
	URL string // with credentials

	t   testing.TB
	cfg natsd.Config
	log *slog.Logger
	d   *natsd.Server // nil while it is stopped

	mu    sync.Mutex
	conns []*nats.Conn // guarded by mu; those of Connect
}

// Start runs a server on a free loopback port, which nobody else takes while it is stopped. It stops when the test
// ends.
func Start(t testing.TB) *Server {
	t.Helper()
	port, err := strconv.Atoi(FreePort(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, cfg: natsd.Config{Dir: t.TempDir(), Port: port, User: "test", Password: "test",
		SyncInterval: time.Minute}, log: Log(t)}
	s.start()
	t.Cleanup(s.Stop)
	return s
}

func (s *Server) start() {
	s.t.Helper()
	d, err := natsd.Start(s.cfg, s.log)
	if err != nil {
		s.t.Fatalf("start nats-server: %v", err)
	}
	s.d = d
	s.URL = "nats://test:test@" + d.URL()[len("nats://"):]
}

// Stop stops the server, and returns when the connections of Connect have noticed it: what
// a test sent over one that has not would be lost.
func (s *Server) Stop() {
	if s.d == nil {
		return
	}
	s.d.Shutdown()
	s.d = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	for begin := time.Now(); slices.ContainsFunc(s.conns, (*nats.Conn).IsConnected); time.Sleep(time.Millisecond) {
		if time.Since(begin) > leastWait {
			s.t.Error("a connection does not notice that its server has stopped")
			return
		}
	}
}

// Restart stops the server if it runs, and starts it on the same port and folder.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.start()
}

// Forget runs f and undoes what the server stored meanwhile, as a power cut
// may: it is restarted before and after.
func (s *Server) Forget(f func()) {
	s.t.Helper()
	kept := filepath.Join(s.t.TempDir(), "kept")
	s.Stop()
	s.must(os.CopyFS(kept, os.DirFS(s.cfg.Dir)))
	s.start()
	f()
	s.Stop()
	s.must(os.RemoveAll(s.cfg.Dir))
	s.must(os.CopyFS(s.cfg.Dir, os.DirFS(kept)))
	s.start()
}

// Damage has f change a file of the stopped server's folder: each is offered
// until f says that it changed one.
func (s *Server) Damage(f func(path string, content []byte) bool) {
	s.t.Helper()
	done := false
	s.must(filepath.WalkDir(s.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || done {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || !f(path, b) {
			return err
		}
		done = true
		return os.WriteFile(path, b, 0o600)
	}))
	if !done {
		s.t.Fatal("there is nothing to damage")
	}
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Connect dials the server as a service does; the connection closes with the test.
func (s *Server) Connect() *nats.Conn {
	s.t.Helper()
	nc, err := natsx.Connect(natsx.Config{URL: s.URL, Name: "test"}, s.log)
	if err != nil {
		s.t.Fatalf("connect to NATS: %v", err)
	}
	s.t.Cleanup(nc.Close)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, nc)
	return nc
}

// Stream declares the stream HERALD and returns a JetStream handle and the epoch.
func (s *Server) Stream(nc *nats.Conn) (jetstream.JetStream, string) {
	s.t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatalf("JetStream: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), leastWait)
	defer cancel()
	epoch, err := natsx.EnsureStream(ctx, js, natsx.StreamConfig{MaxAge: time.Hour, MaxBytes: 256 << 20})
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	return js, epoch
}

// Log is a logger into the test's own output. What callbacks of nats.go log
// after the test is dropped: it would stand in another one's output, and after
// the last test panic. A fuzz target logs nothing: F panics when it is asked
// for its output while it runs.
func Log(t testing.TB) *slog.Logger {
	if _, fuzz := t.(*testing.F); fuzz {
		return slog.New(slog.DiscardHandler)
	}
	out := &output{t: t}
	t.Cleanup(func() {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.over = true
	})
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type output struct {
	t testing.TB

	mu   sync.Mutex
	over bool // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return len(b), nil
	}
	return o.t.Output().Write(b)
}

// leastWait is how long Eventually waits at least: a machine that does other things as well takes many times
// as long as one that does not.
const leastWait = time.Minute

// Eventually waits until cond is true and fails the test if it is not within
// timeout, and a minute at least. Tests wait for conditions, never for time to pass.
func Eventually(t testing.TB, timeout time.Duration, what string, cond func() bool) {
	t.Helper()
	timeout = max(timeout, leastWait)
	deadline := time.Now().Add(timeout)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not: %s", timeout, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
