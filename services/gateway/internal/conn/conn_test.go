package conn

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

func TestFrameBytes(t *testing.T) {
	text := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	for _, c := range []struct {
		name      string
		got, head []byte
		payload   int
	}{
		{"empty", TextFrame(nil), []byte{0x81, 0}, 0},
		{"short", TextFrame(text(125)), []byte{0x81, 125}, 125},
		{"two bytes of length", TextFrame(text(126)), []byte{0x81, 126, 0, 126}, 126},
		{"their end", TextFrame(text(65535)), []byte{0x81, 126, 0xff, 0xff}, 65535},
		{"eight bytes of length", TextFrame(text(65536)), []byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}, 65536},
		{"ping", pingFrame, []byte{0x89, 0}, 0},
	} {
		if want := append(c.head, text(c.payload)...); !bytes.Equal(c.got, want) {
			t.Errorf("%s: got % x… (%d bytes), want % x… (%d bytes)", c.name, c.got[:2], len(c.got), want[:2], len(want))
		}
	}
	if got, want := closeFrame(proto.CloseSlowConsumer), "\x88\x0f\x0f\xa0slow-consumer"; string(got) != want {
		t.Errorf("goodbye: got %q, want %q", got, want)
	}
	for _, code := range proto.CloseCodes() {
		if n := len(closeFrame(code)); n > 127 {
			t.Errorf("goodbye %s has %d bytes; a control frame has at most 125 of payload", code, n)
		}
	}
}

// What is sent stands on the wire byte for byte.
func TestWire(t *testing.T) {
	forms(t, Config{}, func(t *testing.T, s *server) {
		s.frame = func(c *Conn, b []byte) { c.Send(TextFrame(append([]byte("echo "), b...))); c.Flush() }
		p, c := s.connect()
		if c.ID() != "test" || c.Remote() != local || c.Reason() != 0 || s.set.Len() != 1 {
			t.Errorf("got %q, %v, %v, %d connections", c.ID(), c.Remote(), c.Reason(), s.set.Len())
		}
		c.Send(TextFrame([]byte("one")))
		c.Send(TextFrame([]byte("two")))
		c.Flush()
		got := make([]byte, 10)
		if _, err := io.ReadFull(p.br, got); err != nil || string(got) != "\x81\x03one\x81\x03two" {
			t.Fatalf("got %q, %v", got, err)
		}
		p.send(opText, "hello")
		p.want(opText, "echo hello")
		p.send(opPing, "are you there")
		p.want(opPong, "are you there")
		// A message in three fragments with a ping between them.
		p.write(masked(opText&^0x80, []byte("a")))
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
	forms(t, Config{MaxQueueBytes: 64 << 20}, func(t *testing.T, s *server) {
		r := random(t)
		p, c := s.connect()
		const frames, pings = 600, 50
		var sender sync.WaitGroup
		sender.Go(func() {
			for i := range frames {
				b := binary.BigEndian.AppendUint32(nil, uint32(i))
				c.Send(TextFrame(append(b, bytes.Repeat([]byte{byte(i)}, i*i%40000)...)))
				if i%3 > 0 {
					c.Flush()
				}
			}
			c.Flush()
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
				want := append(binary.BigEndian.AppendUint32(nil, uint32(next)), bytes.Repeat([]byte{byte(next)}, next*next%40000)...)
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

// idle checks that a connection with nothing to write keeps nothing for it.
func idle(t *testing.T, c *Conn) {
	t.Helper()
	eventually(t, "the queue is empty and nobody drains it", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.draining && c.queue == nil && c.queued == 0 && c.written == 0 && c.inflight == 0
	})
}

// The deadline that bounds a stalled write must not outlive it: a socket that
// was full once takes the next message long after.
func TestWriteAfterAStallIsOver(t *testing.T) {
	forms(t, Config{MaxQueueBytes: 8 << 20}, func(t *testing.T, s *server) {
		s.set.writeStall = 300 * time.Millisecond
		p, c := s.connect()
		for range 40 {
			c.Send(TextFrame(make([]byte, 60000)))
		}
		c.Flush()
		for range 40 {
			if _, _, err := p.read(); err != nil {
				t.Fatal(err)
			}
		}
		idle(t, c)
		time.Sleep(s.set.writeStall + 50*time.Millisecond) // a deadline that is still set is over now
		c.Send(TextFrame([]byte("later")))
		c.Flush()
		p.want(opText, "later")
	})
}

// Many goroutines send at once: frames stay whole, and each one's in order.
func TestConcurrentSend(t *testing.T) {
	forms(t, Config{MaxQueueBytes: 16 << 20}, func(t *testing.T, s *server) {
		p, c := s.connect()
		const senders, each = 8, 400
		var running sync.WaitGroup
		for i := range senders {
			running.Go(func() {
				for n := range each {
					b := TextFrame(fmt.Appendf(nil, "%d %d %s", i, n, bytes.Repeat([]byte("."), n*7)))
					if i == 0 {
						if err := c.SendWait(context.Background(), b); err != nil {
							t.Errorf("send: %v", err)
						}
						continue
					}
					c.Send(b)
					c.Flush()
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
	forms(t, Config{MaxQueueBytes: queue}, func(t *testing.T, s *server) {
		p, c := s.connect()
		sent := make(chan int, frames)
		var replay sync.WaitGroup
		replay.Go(func() {
			for i := range frames {
				if err := c.SendWait(context.Background(), TextFrame(make([]byte, 10000+i))); err != nil {
					t.Errorf("frame %d: %v", i, err)
				}
				sent <- i
			}
			close(sent)
		})
		eventually(t, "the replay waits", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.room != nil
		})
		if n := len(sent); n == frames {
			t.Fatalf("all %d frames were sent to a client that reads nothing", n)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := c.SendWait(ctx, TextFrame(make([]byte, 60000))); !errors.Is(err, context.Canceled) {
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
				if err := c.SendWait(context.Background(), TextFrame(make([]byte, 10000))); err != nil {
					failed <- err
					return
				}
			}
		})
		eventually(t, "the replay waits", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.room != nil
		})
		c.Close(proto.CloseGoingAway)
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("a connection that closes: got %v, want %v", err, ErrClosed)
		}
		replay.Wait()
	})
}

// What a client is sent on arrival may be more than its socket takes, and what
// it says meanwhile is not forgotten.
func TestGreeting(t *testing.T) {
	forms(t, Config{MaxQueueBytes: 64 << 10}, func(t *testing.T, s *server) {
		const frames, words = 300, 50
		s.greet = func(c *Conn) {
			for i := range frames {
				if err := c.SendWait(context.Background(), TextFrame(make([]byte, 10000+i))); err != nil {
					t.Errorf("frame %d: %v", i, err)
				}
			}
		}
		s.frame = func(c *Conn, b []byte) { c.Send(TextFrame(b)); c.Flush() }
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

// A client that talks faster than it is heard is made to wait, and nothing it
// says is lost or kept in great number.
func TestTalksTooMuch(t *testing.T) {
	forms(t, Config{}, func(t *testing.T, s *server) {
		const words = 3000
		held := make(chan struct{})
		s.frame = func(c *Conn, b []byte) {
			<-held
			c.Send(TextFrame(b[:8]))
			c.Flush()
		}
		p, c := s.connect()
		var talking sync.WaitGroup
		talking.Go(func() {
			for i := range words {
				if _, err := p.nc.Write(masked(opText, fmt.Appendf(nil, "%08d%s", i, bytes.Repeat([]byte("."), 2000)))); err != nil {
					t.Errorf("word %d: %v", i, err)
					return
				}
			}
		})
		eventually(t, "some words wait", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.paused || s.secure || s.set.pollers == nil
		})
		c.mu.Lock()
		if c.waiting > maxInbox+coalesce {
			t.Errorf("%d bytes wait for a busy client, want at most %d", c.waiting, maxInbox)
		}
		c.mu.Unlock()
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
	forms(t, Config{MaxQueueBytes: 1000}, func(t *testing.T, s *server) {
		p, c := s.connect()
		idle(t, c)
		c.Send(TextFrame(make([]byte, 100_000)))
		c.Flush()
		if _, payload, err := p.read(); err != nil || len(payload) != 100_000 {
			t.Fatalf("got %d bytes, %v", len(payload), err)
		}
		idle(t, c)
		if err := c.SendWait(context.Background(), TextFrame(make([]byte, 200_000))); err != nil {
			t.Fatal(err)
		}
		if _, payload, err := p.read(); err != nil || len(payload) != 200_000 {
			t.Fatalf("got %d bytes, %v", len(payload), err)
		}
	})
}
