package natstest

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Wire stands between a client and its server. What one of them sends may be lost.
type Wire struct {
	URL string // of the wire, with NATS's credentials

	listener net.Listener
	server   string      // NATS's address
	Deaf     atomic.Bool // answers are lost
	Mute     atomic.Bool // what the client sends is lost
	Closed   atomic.Bool // new connections are refused
	// LostAcks counts JetStream's acknowledgements among the answers that were lost. A message can be seen in the
	// stream before its acknowledgement is on the wire.
	LostAcks atomic.Int64
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

// NewWire is a wire to the server; it ends with the test.
func NewWire(t testing.TB, server *Server) *Wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndexByte(server.URL, '@') + 1
	w := &Wire{URL: server.URL[:at] + l.Addr().String(), listener: l, server: server.URL[at:]}
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
		w.Cut()
		w.wg.Wait()
	})
	return w
}

// carry joins one connection to the server until either end closes.
func (w *Wire) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	if w.Closed.Load() {
		return
	}
	server, err := net.Dial("tcp", w.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	w.mu.Lock()
	if w.Closed.Load() { // since it was looked at; Cut may have been called
		w.mu.Unlock()
		return
	}
	w.conns = append(w.conns, client, server)
	w.mu.Unlock()
	w.wg.Go(func() {
		_, _ = io.Copy(whileHeard{server, &w.Mute}, client)
		_ = server.Close()
	})
	b := make([]byte, 32<<10)
	for {
		n, err := server.Read(b)
		if n > 0 && w.Deaf.Load() {
			w.LostAcks.Add(int64(bytes.Count(b[:n], []byte(`"seq":`))))
		} else if n > 0 {
			_, _ = client.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// Cut breaks every connection.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// whileHeard writes to the server, or loses what is written.
type whileHeard struct {
	server net.Conn
	mute   *atomic.Bool
}

func (h whileHeard) Write(b []byte) (int, error) {
	if h.mute.Load() {
		return len(b), nil
	}
	return h.server.Write(b)
}
