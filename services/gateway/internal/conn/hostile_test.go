package conn_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
)

// Messages that have no bytes are not free: a client that sends nothing but
// them is made to wait like any other.
func TestEmptyMessages(t *testing.T) {
	for _, size := range []int{0, 1} {
		s := newServer(t, conn.Config{}, "tcp", false)
		held := make(chan struct{})
		release := sync.OnceFunc(func() { close(held) })
		t.Cleanup(release) // before the server waits for its clients
		s.frame = func(*conn.Conn, []byte) { <-held }
		p, _ := s.connect()
		burst := bytes.Repeat(masked(opText, make([]byte, size)), 1000)
		var said atomic.Int64
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var talking sync.WaitGroup
		talking.Go(func() { // ends with the connection, since it is made to wait
			for range 5000 {
				if _, err := p.nc.Write(burst); err != nil {
					return
				}
				said.Add(1)
			}
			t.Error("five million messages were taken in")
		})
		stands(t, &said)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int(after.HeapAlloc) - int(before.HeapAlloc); grown > 4<<20 {
			t.Errorf("messages of %d bytes that wait take %d", size, grown)
		}
		_ = p.nc.Close()
		talking.Wait()
		release()
		s.ended()
	}
}

// Pongs count against the queue's bound like everything else: a client that
// pings and does not read is a slow one.
func TestPingsUnread(t *testing.T) {
	s := newServer(t, conn.Config{MaxQueueBytes: 64 << 10}, "tcp", false)
	p, c := s.connect()
	burst := bytes.Repeat(masked(opPing, nil), 5000)
	go func() { // ends when the connection does
		for {
			if _, err := p.nc.Write(burst); err != nil {
				return
			}
		}
	}()
	most := 0
	for c.Reason() == 0 {
		most = max(most, c.Queued())
	}
	if code := s.ended(); code != proto.CloseSlowConsumer || most > 64<<10 {
		t.Errorf("it ended with %v; up to %d bytes were queued", code, most)
	}
}

// What a client sends after our goodbye is not handled.
func TestNothingHandledAfterGoodbye(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		var calls atomic.Int32
		s.frame = func(c *conn.Conn, _ []byte) {
			calls.Add(1)
			c.Close(proto.CloseTooManyFrames)
		}
		p, _ := s.connect()
		p.write(bytes.Repeat(masked(opText, []byte("x")), 5000))
		p.untilClose()
		p.goodbye(1000)
		p.end()
		s.ended()
		if n := calls.Load(); n != 1 {
			t.Errorf("Frame was called %d times, want once", n)
		}
	})
}

// A client that says that it sends nothing more still gets what is queued, and
// the goodbye.
func TestHalfClosedClient(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		p, c := s.connect()
		c.Push(textFrame(make([]byte, 900<<10)))
		c.Close(proto.CloseGoingAway)
		if err := p.nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if texts, code, _ := p.untilClose(); texts != 1 || code != uint16(proto.CloseGoingAway) {
			t.Errorf("got %d messages and code %d", texts, code)
		}
		p.end()
		if code := s.ended(); code != proto.CloseGoingAway {
			t.Errorf("it ended with %v", code)
		}
	})
}

// strict is a client that checks how it is called, and does anything that a
// client may do meanwhile.
type strict struct {
	t              *testing.T
	c              *conn.Conn
	arrived, ended bool
	inside         atomic.Bool
	left           *atomic.Int64
}

func (l *strict) call(what string, right bool) func() {
	if l.inside.Swap(true) || !right {
		l.t.Errorf("%s while another call runs, or out of turn", what)
	}
	return func() { l.inside.Store(false) }
}

func (l *strict) Arrived() {
	defer l.call("Arrived", !l.arrived && !l.ended)()
	l.arrived = true
	switch rand.IntN(4) {
	case 0:
		codes := proto.CloseCodes()
		l.c.Close(codes[rand.IntN(len(codes))])
	case 1:
		for range 50 {
			if l.c.SendWait(context.Background(), textFrame(make([]byte, 5000))) != nil {
				break
			}
		}
	}
}

func (l *strict) Frame(b []byte, _ bool) {
	defer l.call("Frame", l.arrived && !l.ended)()
	switch rand.IntN(8) {
	case 0:
		l.c.Close(proto.CloseInvalidPayload)
	case 1:
		_ = l.c.SendWait(context.Background(), textFrame(make([]byte, 20000))) // the client may be gone
	default:
		l.c.Push(textFrame(b))
	}
}

func (l *strict) Ended() {
	defer l.call("Ended", l.arrived && !l.ended)()
	l.ended = true
	if l.c.Reason() == 0 {
		l.t.Error("it ended for no reason")
	}
	l.left.Add(1)
}

// Clients that do everything wrong at any moment, while messages come for
// them: each is called in turn and ended once, and nothing of it is left.
func TestHostileClients(t *testing.T) {
	for _, form := range formNames {
		t.Run(form, func(t *testing.T) {
			const clients, each = 16, 25
			var accepted, left atomic.Int64
			s := newForm(t, conn.Config{
				MaxQueueBytes: 64 << 10, Heartbeat: 2 * time.Second, CloseWait: 50 * time.Millisecond,
				WriteStall: 100 * time.Millisecond,
			}, form)
			var all remains
			var sending sync.WaitGroup
			s.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c := new(conn.Conn)
				err := s.set.Accept(c, w, r, local, "x", conn.WebSocket, func(int, error) {})
				if err != nil {
					return
				}
				accepted.Add(1)
				all.add(c)
				sending.Go(func() { // as a shard does
					for range rand.IntN(60) {
						c.Push(textFrame(make([]byte, rand.IntN(4000))))
						if rand.IntN(3) > 0 {
						}
						if rand.IntN(60) == 0 {
							c.Close(proto.CloseRestart)
						}
					}
				})
				c.Start(&strict{t: t, c: c, left: &left})
			})
			var running sync.WaitGroup
			for range clients {
				running.Go(func() {
					for range each {
						s.misbehave()
					}
				})
			}
			running.Wait()
			s.set.Drain(context.Background(), 0, proto.CloseGoingAway)
			s.set.Wait()
			if accepted.Load() != left.Load() || s.set.Len() != 0 {
				t.Errorf("%d accepted, %d ended, %d are still counted", accepted.Load(), left.Load(), s.set.Len())
			}
			sending.Wait()
			all.collected(t)
		})
	}
}

// misbehave is one client from its first byte to its last.
func (s *server) misbehave() {
	p := s.dial()
	socket := p.nc
	if t, ok := socket.(*tls.Conn); ok {
		socket = t.NetConn() // the other Close waits seconds for its alert to go out
	}
	defer func() { _ = socket.Close() }()
	p.patience(time.Second)
	if _, err := p.nc.Write([]byte(handshake)); err != nil || rand.IntN(20) == 0 {
		return
	}
	if resp, err := http.ReadResponse(p.br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	if reads, answers := rand.IntN(3) > 0, rand.IntN(2) == 0; reads {
		done := make(chan struct{})
		go func() { // ends with the connection or the patience below
			defer close(done)
			for {
				op, _, err := p.read()
				if err != nil {
					return
				}
				if op == opClose && answers {
					_, _ = p.nc.Write(masked(opClose, nil)) // the server may have hung up
				}
			}
		}()
		defer func() { p.patience(100 * time.Millisecond); <-done }()
	}
	for range rand.IntN(12) {
		b := masked(opPong, nil)
		switch rand.IntN(9) {
		case 0:
			b = masked(opPing, []byte("hi"))
		case 1:
			b = bytes.Repeat(masked(opText, make([]byte, rand.IntN(500))), rand.IntN(300))
		case 2:
			b = masked(opText, make([]byte, rand.IntN(16000)))
		case 3:
			b = bytes.Repeat(masked(opPing, nil), 3000)
		case 4:
			b = b[:1]
		case 5:
			b = masked(opClose, []byte{3, 0xe8})
		case 6:
			if half, ok := p.nc.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite() // twice, perhaps
			}
		case 7:
			if tcp, ok := p.nc.(*net.TCPConn); ok && rand.IntN(3) == 0 {
				_ = tcp.SetLinger(0) // a reset
				return
			}
		}
		if _, err := p.nc.Write(b); err != nil {
			return
		}
	}
}
