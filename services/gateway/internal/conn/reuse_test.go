package conn_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
)

// register is all connections of a test by number, also those that have ended.
type register struct {
	mu    sync.Mutex
	conns map[int]*conn.Conn // guarded by mu
}

// numbered accepts a client that names its number, 1 to N, in the URL.
func (g *register) numbered(s *server) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		c := new(conn.Conn)
		err := s.set.Accept(c, w, r, local, strconv.Itoa(n), conn.WebSocket, func(int, error) {})
		if err != nil {
			return
		}
		g.mu.Lock()
		g.conns[n] = c
		g.mu.Unlock()
		c.Start(&caller{s, c})
	}
}

func (g *register) get(n int) *conn.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns[n]
}

// numberedFrame is a frame that tells whose it is by each byte of it.
func numberedFrame(n, size int) []byte {
	return textFrame(bytes.Repeat(fmt.Appendf(nil, "%08d.", n), size))
}

// ownFrame reports whether a payload is of the client with this number.
func ownFrame(payload []byte, n int) bool {
	word := fmt.Appendf(nil, "%08d.", n)
	return len(payload)%len(word) == 0 && bytes.Equal(payload, bytes.Repeat(word, len(payload)/len(word)))
}

// Descriptors are used again right after they are closed, while events for
// the old connections are pending and others still send to them: nobody ever
// reads a byte that is meant for another.
func TestDescriptorReuse(t *testing.T) {
	forms(t, conn.Config{MaxQueueBytes: 64 << 10}, func(t *testing.T, s *server) {
		const clients, each = 12, 20
		g := register{conns: map[int]*conn.Conn{}}
		s.frame = func(c *conn.Conn, b []byte) { // "echo" comes back with the connection's own number
			n, _ := strconv.Atoi(c.ID())
			_ = c.SendWait(context.Background(), numberedFrame(n, 1+len(b)%50)) // the client may be gone
		}
		s.http.Config.Handler = g.numbered(s)
		var newest atomic.Int64
		stop := make(chan struct{})
		var sending sync.WaitGroup
		seed := random(t)
		for range 4 {
			r := rand.New(rand.NewPCG(seed.Uint64(), 1))
			sending.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Microsecond): // leaves the processors to the others
					}
					n := int(newest.Load()) - r.IntN(2*clients) // many of these have ended
					c := g.get(n)
					if c == nil {
						continue
					}
					switch r.IntN(20) {
					case 0:
						c.Close(proto.CloseBadRequest)
					case 1:
						c.Close(proto.CloseSlowConsumer)
					case 2:
						c.Push(conn.WebSocket.Heartbeat)
					default:
						c.Push(numberedFrame(n, r.IntN(300)))
						if r.IntN(3) > 0 {
						}
					}
				}
			})
		}
		var running sync.WaitGroup
		for range clients {
			r := rand.New(rand.NewPCG(seed.Uint64(), 2))
			running.Go(func() {
				for range each {
					n := int(newest.Add(1))
					if err := s.reuse(n, r); err != nil {
						t.Errorf("client %d: %v", n, err)
					}
				}
			})
		}
		running.Wait()
		close(stop)
		sending.Wait()
		for range clients * each {
			s.ended()
		}
	})
}

// reuse is one short client. What breaks off is no error.
func (s *server) reuse(n int, r *rand.Rand) error {
	p := s.dial()
	socket := bare(p.nc)
	defer func() { _ = socket.Close() }()
	if _, err := p.nc.Write([]byte(strings.Replace(handshake, "GET /", fmt.Sprintf("GET /?n=%d", n), 1))); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("handshake: %v, %w", resp, err)
	}
	for range r.IntN(4) {
		if _, err := p.nc.Write(masked(opText, make([]byte, r.IntN(200)))); err != nil {
			return nil // the server has hung up
		}
	}
	p.patience(100 * time.Millisecond)
	for range r.IntN(12) {
		op, payload, err := p.read()
		switch {
		case err != nil: // it waits for more than it is sent, or is hung up on
			return nil
		case op == opText && !ownFrame(payload, n):
			return fmt.Errorf("read %.40q, which is another's", payload)
		case op == opClose:
			if code := proto.CloseCode(binary.BigEndian.Uint16(payload)); code != proto.CloseBadRequest &&
				code != proto.CloseSlowConsumer {
				return fmt.Errorf("read goodbye %v", code)
			}
			_, _ = p.nc.Write(masked(opClose, payload[:2])) // the server may have hung up
			return nil
		}
	}
	switch r.IntN(4) {
	case 0:
		if tcp, ok := socket.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset
		}
	case 1:
		_, _ = p.nc.Write(masked(opClose, nil)) // the server may have hung up
	case 2:
		_, _ = p.nc.Write(masked(opPing, nil)[:3]) // likewise
	}
	return nil
}

// bare is the socket itself: closing TLS waits seconds for its alert to go
// out.
func bare(nc net.Conn) net.Conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return nc
}
