package conn_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// What is sent stands on the wire byte for byte.
func TestWire(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(append([]byte("echo "), b...))) }
		p, c := s.connect()
		if c.ID() != "test" || c.Remote() != local || c.Reason() != 0 || s.set.Len() != 1 {
			t.Errorf("got %q, %v, %v, %d connections", c.ID(), c.Remote(), c.Reason(), s.set.Len())
		}
		c.Push(textFrame([]byte("one")))
		c.Push(textFrame([]byte("two")))
		got := make([]byte, 10)
		if _, err := io.ReadFull(p.br, got); err != nil || string(got) != "\x81\x03one\x81\x03two" {
			t.Fatalf("got %q, %v", got, err)
		}
		p.send(opText, "hello")
		p.want(opText, "echo hello")
		p.send(opPing, "are you there")
		p.want(opPong, "are you there")
		// A message in three fragments with a ping between them.
		p.write(masked(byte(ws.Text), []byte("a")))
		p.write(masked(0, []byte("b")))
		p.send(opPing, "")
		p.write(masked(0x80, []byte("c")))
		p.want(opPong, "")
		p.want(opText, "echo abc")
	})
}

// A socket that takes a few bytes at a time gets every byte, in order, and
// what gorilla writes (pongs) does not cut into a frame.
func TestPartialWrites(t *testing.T) {
	forms(t, conn.Config{MaxQueueBytes: 64 << 20}, func(t *testing.T, s *server) {
		r := random(t)
		p, c := s.connect()
		const frames, pings = 600, 50
		var sender sync.WaitGroup
		sender.Go(func() {
			for i := range frames {
				b := binary.BigEndian.AppendUint32(nil, uint32(i))
				c.Push(textFrame(append(b, bytes.Repeat([]byte{byte(i)}, i*i%40000)...)))
				if i%3 > 0 {
				}
			}
		})
		var pinger sync.WaitGroup
		pinger.Go(func() {
			for i := range pings {
				p.send(opPing, fmt.Sprint(i))
			}
		})
		next, pongs := 0, 0
		for next < frames || pongs < pings {
			op, payload, err := p.read()
			if err != nil {
				t.Fatalf("after %d frames: %v", next, err)
			}
			switch op {
			case opPong:
				if string(payload) != fmt.Sprint(pongs) {
					t.Fatalf("pong %d: got %q", pongs, payload)
				}
				pongs++
			case opText:
				want := append(binary.BigEndian.AppendUint32(nil, uint32(next)),
					bytes.Repeat([]byte{byte(next)}, next*next%40000)...)
				if !bytes.Equal(payload, want) {
					t.Fatalf("frame %d: got %d bytes, want %d", next, len(payload), len(want))
				}
				next++
			}
			if r.IntN(50) == 0 {
				time.Sleep(time.Millisecond) // a slow reader, not a wait for something
			}
		}
		sender.Wait()
		pinger.Wait()
		idle(t, c)
	})
}

// idle waits until nothing is queued for a client.
func idle(t *testing.T, c *conn.Conn) {
	t.Helper()
	eventually(t, "the queue is empty", func() bool { return c.Queued() == 0 })
}

// The deadline that bounds a stalled write must not outlive it: a socket that
// was full once takes the next message long after.
func TestWriteAfterAStallIsOver(t *testing.T) {
	const stall = 3 * time.Second // a busy machine may stop for seconds
	forms(t, conn.Config{MaxQueueBytes: 8 << 20, WriteStall: stall}, func(t *testing.T, s *server) {
		p, c := s.connect()
		for range 40 {
			c.Push(textFrame(make([]byte, 60000)))
		}
		for range 40 {
			if _, _, err := p.read(); err != nil {
				t.Fatal(err)
			}
		}
		idle(t, c)
		time.Sleep(stall + 50*time.Millisecond) // a deadline that is still set is over now
		c.Push(textFrame([]byte("later")))
		p.want(opText, "later")
	})
}

// Many goroutines send at once: frames stay whole, and each one's in order.
func TestConcurrentSend(t *testing.T) {
	forms(t, conn.Config{MaxQueueBytes: 16 << 20}, func(t *testing.T, s *server) {
		p, c := s.connect()
		const senders, each = 8, 400
		var running sync.WaitGroup
		for i := range senders {
			running.Go(func() {
				for n := range each {
					b := textFrame(fmt.Appendf(nil, "%d %d %s", i, n, bytes.Repeat([]byte("."), n*7)))
					if i == 0 {
						if err := c.SendWait(context.Background(), b); err != nil {
							t.Errorf("send: %v", err)
						}
						continue
					}
					c.Push(b)
				}
			})
		}
		var next [senders]int
		for range senders * each {
			_, payload, err := p.read()
			if err != nil {
				t.Fatal(err)
			}
			var i, n int
			if _, err := fmt.Sscanf(string(payload), "%d %d", &i, &n); err != nil || n != next[i] {
				t.Fatalf("got %.20q, want number %d of %d", payload, next[i], i)
			}
			next[i]++
		}
		running.Wait()
		idle(t, c)
	})
}

// SendWait holds back while the client is busy, goes on when it has read, and
// gives up with the context or the connection.
func TestSendWait(t *testing.T) {
	const queue, frames = 128 << 10, 300
	forms(t, conn.Config{MaxQueueBytes: queue}, func(t *testing.T, s *server) {
		p, c := s.connect()
		sent := make(chan int, frames)
		var replay sync.WaitGroup
		replay.Go(func() {
			for i := range frames {
				if err := c.SendWait(context.Background(), textFrame(make([]byte, 10000+i))); err != nil {
					t.Errorf("frame %d: %v", i, err)
				}
				sent <- i
			}
			close(sent)
		})
		eventually(t, "the replay waits", func() bool { return c.Queued() > queue/2-11000 })
		if n := len(sent); n == frames {
			t.Fatalf("all %d frames were sent to a client that reads nothing", n)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := c.SendWait(ctx, textFrame(make([]byte, 60000))); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: got %v", err)
		}
		for i := range frames {
			if _, payload, err := p.read(); err != nil || len(payload) != 10000+i {
				t.Fatalf("frame %d: got %d bytes, %v", i, len(payload), err)
			}
		}
		replay.Wait()

		failed := make(chan error, 1)
		replay.Go(func() {
			for {
				if err := c.SendWait(context.Background(), textFrame(make([]byte, 10000))); err != nil {
					failed <- err
					return
				}
			}
		})
		eventually(t, "the replay waits", func() bool { return c.Queued() > queue/2-11000 })
		c.Close(proto.CloseGoingAway)
		if err := <-failed; !errors.Is(err, conn.ErrClosed) {
			t.Errorf("a connection that closes: got %v, want %v", err, conn.ErrClosed)
		}
		replay.Wait()
	})
}

// What a client is sent on arrival may be more than its socket takes, and what
// it says meanwhile is not forgotten.
func TestGreeting(t *testing.T) {
	forms(t, conn.Config{MaxQueueBytes: 64 << 10}, func(t *testing.T, s *server) {
		const frames, words = 300, 50
		s.greet = func(c *conn.Conn) {
			for i := range frames {
				if err := c.SendWait(context.Background(), textFrame(make([]byte, 10000+i))); err != nil {
					t.Errorf("frame %d: %v", i, err)
				}
			}
		}
		s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(b)) }
		p, c := s.connect()
		for i := range words {
			p.send(opText, fmt.Sprint(i))
		}
		for i := range frames {
			if op, payload, err := p.read(); err != nil || op != opText || len(payload) != 10000+i {
				t.Fatalf("frame %d: got %#02x of %d bytes, %v", i, op, len(payload), err)
			}
		}
		for i := range words {
			p.want(opText, fmt.Sprint(i))
		}
		idle(t, c)
	})
}

// A client that sends faster than its messages are handled is made to wait, and
// nothing that it sends is lost or kept in great number.
func TestTalksTooMuch(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		const words = 3000
		held := make(chan struct{})
		var said atomic.Int64
		s.frame = func(c *conn.Conn, b []byte) {
			<-held
			c.Push(textFrame(b[:8]))
		}
		p, _ := s.connect()
		var talking sync.WaitGroup
		talking.Go(func() {
			for i := range words {
				word := fmt.Appendf(nil, "%08d%s", i, bytes.Repeat([]byte("."), 2000))
				if _, err := p.nc.Write(masked(opText, word)); err != nil {
					t.Errorf("word %d: %v", i, err)
					return
				}
				said.Add(1)
			}
		})
		stands(t, &said)
		if n := said.Load(); n == words {
			t.Errorf("all %d words were read from a client that is not listened to", n)
		}
		close(held)
		for i := range words {
			p.want(opText, fmt.Sprintf("%08d", i))
		}
		talking.Wait()
	})
}

// A frame that is larger than the queue's bound reaches a client that has
// nothing else waiting.
func TestFrameLargerThanTheQueue(t *testing.T) {
	forms(t, conn.Config{MaxQueueBytes: 1000}, func(t *testing.T, s *server) {
		p, c := s.connect()
		idle(t, c)
		c.Push(textFrame(make([]byte, 100_000)))
		if _, payload, err := p.read(); err != nil || len(payload) != 100_000 {
			t.Fatalf("got %d bytes, %v", len(payload), err)
		}
		idle(t, c)
		if err := c.SendWait(context.Background(), textFrame(make([]byte, 200_000))); err != nil {
			t.Fatal(err)
		}
		if _, payload, err := p.read(); err != nil || len(payload) != 200_000 {
			t.Fatalf("got %d bytes, %v", len(payload), err)
		}
	})
}
