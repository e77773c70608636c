package conn_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
)

// Both sides say goodbye at the same moment: the client hears one goodbye,
// ours or its own, and the end.
func TestBothClose(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		for range 60 {
			p, c := s.connect()
			var closing sync.WaitGroup
			closing.Go(func() { c.Close(proto.CloseRestart) })
			closing.Go(func() { c.Push(textFrame([]byte("x"))) })
			p.goodbye(4321)
			closing.Wait()
			texts, code, _ := p.untilClose()
			if texts > 1 || code != 4321 && code != uint16(proto.CloseRestart) {
				t.Fatalf("got %d messages and code %d", texts, code)
			}
			p.end()
			if got := s.ended(); got != proto.CloseNormal && got != proto.CloseRestart ||
				(got == proto.CloseRestart) != (code == 1012) {
				t.Fatalf("it ended with %v, the client heard %d", got, code)
			}
		}
	})
}

// stick sends frames of 10000 bytes until the socket takes no more, and so
// many further ones; it returns how many.
func stick(t *testing.T, c *conn.Conn, further int) (sent int) {
	t.Helper()
	b := textFrame(bytes.Repeat([]byte("s"), 10000))
	stuck := func() bool { return c.Queued() > 5*len(b) }
	for ; !stuck(); sent++ {
		if sent > 5000 {
			t.Fatal("the socket takes everything")
		}
		c.Push(b)
		time.Sleep(20 * time.Microsecond) // lets a drain take what it can
	}
	for range further {
		c.Push(b)
		sent++
	}
	return sent
}

// A write is stuck when somebody says goodbye: once the client reads, it gets
// every frame whole, and then the goodbye.
func TestCloseWhileStuck(t *testing.T) {
	for _, who := range []string{"we", "the client", "both", "half"} {
		t.Run(who, func(t *testing.T) {
			forms(t, conn.Config{MaxQueueBytes: 64 << 20, CloseWait: 15 * time.Second}, func(t *testing.T, s *server) {
				p, c := s.connect()
				sent := stick(t, c, 3)
				want := uint16(proto.CloseGoingAway)
				if who != "we" && who != "half" {
					want = 1003
					p.goodbye(want)
					eventually(t, "the goodbye is heard", func() bool { return c.Reason() != 0 })
				}
				if who != "the client" {
					c.Close(proto.CloseGoingAway)
				}
				if who == "half" {
					_ = p.nc.(interface{ CloseWrite() error }).CloseWrite()
				}
				texts, code, _ := p.untilClose()
				if texts != sent || code != want {
					t.Errorf("got %d messages of %d and code %d, want %d", texts, sent, code, want)
				}
				if who == "we" {
					p.goodbye(code)
				}
				p.end()
				s.ended()
			})
		})
	}
}

// A client that hangs up by a reset while a write to it is stuck is over at
// once, for whoever waits for it, too.
func TestResetWhileStuck(t *testing.T) {
	forms(t, conn.Config{MaxQueueBytes: 64 << 20}, func(t *testing.T, s *server) {
		p, c := s.connect()
		stick(t, c, 0)
		c.Push(make([]byte, 33<<20)) // no room for what follows
		waiting := make(chan error, 1)
		go func() { waiting <- c.SendWait(context.Background(), make([]byte, 1000)) }() // ends with the connection
		socket := bare(p.nc).(*net.TCPConn)
		_ = socket.SetLinger(0)
		_ = socket.Close()
		if code := s.ended(); code != proto.CloseNormal { // else the stalled write has ended it, late
			t.Errorf("it ended with %v", code)
		}
		if err := <-waiting; !errors.Is(err, conn.ErrClosed) {
			t.Errorf("who waits: got %v, want %v", err, conn.ErrClosed)
		}
	})
}

// The set drains while messages are sent to clients of every kind: those who
// read get whole frames and the goodbye, nobody is waited for beyond its time,
// and nothing is left.
func TestDrainWhileWriting(t *testing.T) {
	const wait = 15 * time.Second // for those who read, on a busy machine
	forms(t, conn.Config{MaxQueueBytes: 4 << 20, CloseWait: wait}, func(t *testing.T, s *server) {
		const kinds = 4 // reads; reads slowly; reads from the drain on; never reads
		var reading sync.WaitGroup
		var draining atomic.Bool
		conns := make([]*conn.Conn, 3*kinds)
		for i := range conns {
			p, c := s.connect()
			conns[i] = c
			reading.Go(func() {
				if i%kinds == 3 {
					return
				}
				if i%kinds == 1 {
					p.br.Reset(&sipper{Reader: p.nc, most: 8 << 10, pause: time.Millisecond})
				}
				for i%kinds == 2 && !draining.Load() {
					time.Sleep(time.Millisecond)
				}
				for n := uint32(0); ; n++ {
					op, payload, err := p.read()
					switch {
					case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
						t.Errorf("client %d: the end without a goodbye after %d frames", i, n)
						return
					case err != nil:
						t.Errorf("client %d: after %d frames: %v", i, n, err)
						return
					case op == opClose:
						if code := binary.BigEndian.Uint16(payload); code != uint16(proto.CloseGoingAway) {
							t.Errorf("client %d: goodbye %d", i, code)
						}
						_, _ = p.nc.Write(masked(opClose, payload[:2])) // it may be late
						return
					case len(payload) != 5000 || binary.BigEndian.Uint32(payload) != n:
						t.Errorf("client %d: frame %d is %d bytes, % x", i, n, len(payload), payload[:4])
						return
					}
				}
			})
		}
		stop := make(chan struct{})
		var sending sync.WaitGroup
		for _, c := range conns {
			sending.Go(func() {
				for n := range uint32(700) { // 3.5 MB, below the bound of a queue
					b := binary.BigEndian.AppendUint32(nil, n)
					c.Push(textFrame(append(b, make([]byte, 4996)...)))
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Microsecond):
					}
				}
			})
		}
		eventually(t, "some sockets are full", func() bool { return conns[3].Queued() > 100_000 })
		begin := time.Now()
		draining.Store(true)
		s.set.Drain(context.Background(), 20*time.Millisecond, proto.CloseGoingAway)
		s.set.Wait()
		if took := time.Since(begin); took > wait+time.Minute {
			t.Errorf("it took %s; closeWait is %s", took, wait)
		}
		close(stop)
		sending.Wait()
		reading.Wait()
		for i, c := range conns {
			if c.Reason() == 0 || c.Queued() > 0 {
				t.Errorf("something is left of client %d: reason %v, %d bytes queued", i, c.Reason(), c.Queued())
			}
		}
		if n := s.set.Len(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}
