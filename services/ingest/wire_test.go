package ingest

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/herald-push/herald/services/internal/natstest"
)

// wire stands between an ingest and its NATS. What ingest sends always
// arrives; what NATS answers may be lost.
type wire struct {
	url string // of the wire, with NATS's credentials

	listener net.Listener
	server   string      // NATS's address
	deaf     atomic.Bool // answers are lost
	closed   atomic.Bool // new connections are refused
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

// newWire is a wire to the server; it ends with the test.
func newWire(t testing.TB, server *natstest.Server) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndexByte(server.URL, '@') + 1
	w := &wire{url: server.URL[:at] + l.Addr().String(), listener: l, server: server.URL[at:]}
	w.wg.Go(func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		w.wg.Wait()
	})
	return w
}

// carry joins one connection to the server until either end closes.
func (w *wire) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	if w.closed.Load() {
		return
	}
	server, err := net.Dial("tcp", w.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	w.mu.Lock()
	w.conns = append(w.conns, client, server)
	w.mu.Unlock()
	w.wg.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	b := make([]byte, 32<<10)
	for {
		n, err := server.Read(b)
		if n > 0 && !w.deaf.Load() {
			_, _ = client.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// cut breaks every connection.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}
