//go:build unix

package natsd_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natsd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// exhaustFiles opens files until this process may open no more. The function
// that it returns closes them; the test's end does, too.
func exhaustFiles(t *testing.T) (restore func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = min(few.Cur, 256)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var open []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	restore = func() {
		for _, f := range open {
			_ = f.Close() // only opened
		}
		open = nil
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	return restore
}

// A write error of the store is kept by nats-server for ever. Herald restarts
// it in place once the cause has passed: connections come back, and every
// message that was acknowledged is still there.
func TestRecoversFromWriteError(t *testing.T) {
	s, out := start(t, natsd.Config{Dir: t.TempDir(), Port: -1, User: "herald", Password: "right"})
	lost := make(chan struct{}, 10)
	nc := connect(t, "", s.InProcess(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { lost <- struct{}{} }))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Small blocks, so that a new file is opened every thirty messages.
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"},
		MaxBytes: 120_000}); err != nil {
		t.Fatal(err)
	}
	port := s.Port()
	publish := func() (uint64, error) {
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		ack, err := js.Publish(ask, "s", make([]byte, 1000))
		if err != nil {
			return 0, err
		}
		return ack.Sequence, nil
	}
	newest, err := publish()
	if err != nil || s.Fault() != nil {
		t.Fatalf("got %v, fault %v", err, s.Fault())
	}
	restore := exhaustFiles(t)
	for n := 0; s.Fault() == nil; n++ {
		if seq, err := publish(); err == nil {
			newest = seq
		} // else it is not stored, or a busy machine does not answer in time
		if n > 1000 {
			t.Fatal("every message is stored without a file to open")
		}
	}
	if err := s.Fault(); !strings.Contains(err.Error(), "too many open files") {
		t.Errorf("got %v", err)
	}
	if _, err := publish(); err == nil {
		t.Error("stored, although the store has failed")
	}
	restore()
	select {
	case <-lost:
	case <-time.After(time.Minute):
		t.Fatal("the connection was not lost: the server that recovered is not a new one")
	}
	eventually(t, "messages are stored again", func() bool { return s.Fault() == nil && nc.IsConnected() })
	if s.Port() != port {
		t.Errorf("it listens on %d, and on %d before", s.Port(), port)
	}
	connect(t, s.URL(), nats.UserInfo("herald", "right"))
	stream, err := js.Stream(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.GetMsg(ctx, newest); err != nil {
		t.Errorf("the newest acknowledged message, %d: %v", newest, err)
	}
	if seq, err := publish(); err != nil || seq <= newest {
		t.Errorf("got %d, %v, want a sequence after %d", seq, err, newest)
	}
	for _, want := range []string{"messages cannot be stored", "messages can be stored again"} {
		if n := strings.Count(out.String(), want); n != 1 {
			t.Errorf("it says %q %d times, want once:\n%s", want, n, out)
		}
	}
}

// While no file can be opened the server cannot start. It does when one can.
func TestStartsWhenItCan(t *testing.T) {
	restore := exhaustFiles(t)
	var told []string
	s, _ := start(t, natsd.Config{Dir: t.TempDir(), Port: -1, User: "herald", Password: "right",
		Listening: func(url string) error {
			told = append(told, url)
			if len(told) == 1 {
				return syscall.ENOSPC
			}
			return nil
		}})
	if s.Fault() == nil {
		t.Fatal("got no fault")
	}
	restore()
	eventually(t, "it runs", func() bool { return s.Fault() == nil })
	connect(t, s.URL(), nats.UserInfo("herald", "right"))
	s.Shutdown() // ends the goroutine that calls Listening
	if len(told) < 1 || told[0] != s.URL() {
		t.Errorf("told %v, want %s", told, s.URL())
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for begin := time.Now(); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
