//go:build dist

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// running is a Herald that a test started, whatever it runs on.
type running struct {
	t       *testing.T
	cmd     *exec.Cmd
	out     buffer
	address string
	key     string // of its first start; an earlier one's must be kept by the test
	done    chan error
}

// buffer is what a process wrote, readable while it writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs a command that serves, on a port of its own, and waits until it is
// ready.
func start(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	h := &running{t: t, cmd: cmd, address: freePort(t), done: make(chan error, 1)}
	cmd.Args = append(cmd.Args, "-listen", h.address, "-ops-listen", freePort(t))
	cmd.Stdout, cmd.Stderr = &h.out, &h.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { h.done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	h.await("it is ready", func() bool {
		resp, err := http.Get("http://" + h.address + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	h.await("its greeting", func() bool { return strings.Contains(h.out.String(), "Open the page") })
	if shown := keyShown.FindStringSubmatch(h.out.String()); shown != nil {
		h.key = shown[1]
	}
	return h
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// waits is longer than a Windows boots, in Wine, on a machine that has other work.
const waits = 10 * time.Minute

// await waits for a condition, as long as the process lives.
func (h *running) await(what string, cond func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(waits); !cond(); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-h.done:
			h.t.Fatalf("it ended (%v) before %s:\n%s", err, what, h.out.String())
		default:
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("after %s still not: %s\n%s", waits, what, h.out.String())
		}
	}
}

// deliver publishes over HTTP, and expects the message at a client that listens
// over WebSocket: this machine's own binary of the same release.
func (h *running) deliver(text string) {
	h.t.Helper()
	listener := exec.Command(native(h.t), "listen", "-url", "http://"+h.address)
	var got, said buffer
	listener.Stdout, listener.Stderr = &got, &said
	if err := listener.Start(); err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		_ = listener.Process.Kill()
		_ = listener.Wait() // killed
	}()
	h.await("somebody listens", func() bool { return said.String() != "" })
	h.publish(text)
	h.await("the message came", func() bool { return strings.Contains(got.String(), text) })
}

// publish posts a text message to broadcast.
func (h *running) publish(text string) {
	h.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+h.address+"/v1/channels/broadcast", strings.NewReader(text))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("X-API-KEY", h.key)
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		h.t.Fatalf("%s: %s", resp.Status, b)
	}
}

// history is what a client gets that asks for everything kept.
func (h *running) history(want string) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	listener := exec.CommandContext(ctx, native(h.t), "listen", "-since", "all", "-url", "http://"+h.address)
	var got buffer
	listener.Stdout = &got
	if err := listener.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.await(fmt.Sprintf("%q comes from the history", want), func() bool { return strings.Contains(got.String(), want) })
	cancel()
	_ = listener.Wait() // killed
}

// stop asks it to end as Ctrl-C does, and expects a clean exit.
func (h *running) stop() {
	h.t.Helper()
	if err := h.cmd.Process.Signal(syscall.SIGINT); err != nil {
		h.t.Fatal(err)
	}
	select {
	case err := <-h.done:
		if err != nil {
			h.t.Fatalf("it did not stop cleanly: %v\n%s", err, h.out.String())
		}
	case <-time.After(time.Minute):
		h.t.Fatalf("a minute after the signal it still runs\n%s", h.out.String())
	}
}

// logged expects a message in the SQLite log.
func (h *running) logged(file, message string) {
	h.t.Helper()
	if _, err := os.Stat(file); err != nil {
		h.t.Fatal(err)
	}
	if got := output(h.t, exec.Command("sqlite3", file,
		"SELECT message, channel FROM messages")); !strings.Contains(got, message+"|broadcast\n") {
		h.t.Errorf("the log has %q, want %s", got, message)
	}
}
