package conn

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

// A client that reads too slowly is told so with a goodbye that it can read,
// after whole frames; others get everything, and nobody waits for anybody.
func TestSlowConsumer(t *testing.T) {
	const queue, frames = 128 << 10, 3000
	forms(t, Config{MaxQueueBytes: queue}, func(t *testing.T, s *server) {
		slow, slowConn := s.connect()
		quick, quickConn := s.connect()
		got := make(chan int)
		go func() { // ends with the frames, or with the test's patience; waited for through got
			n := 0
			for ; n < frames; n++ {
				if _, payload, err := quick.read(); err != nil || !bytes.HasPrefix(payload, fmt.Appendf(nil, "%d ", n)) {
					t.Errorf("the quick client: frame %d: %.20q, %v", n, payload, err)
					break
				}
			}
			got <- n
		}()
		for i := range frames {
			b := TextFrame(fmt.Appendf(nil, "%d %s", i, bytes.Repeat([]byte("x"), i%3000)))
			slowConn.Send(b)
			slowConn.Flush()
			if slowConn.Reason() == 0 && len(b) > 0 {
				slowConn.mu.Lock()
				if slowConn.queued > queue {
					t.Errorf("%d bytes are queued, the bound is %d", slowConn.queued, queue)
				}
				slowConn.mu.Unlock()
			}
			// At a pace that the quick one can follow.
			eventually(t, "the quick client has room", func() bool {
				quickConn.mu.Lock()
				defer quickConn.mu.Unlock()
				return quickConn.queued < queue/2
			})
			quickConn.Send(b)
			quickConn.Flush()
		}
		if n := <-got; n != frames || quickConn.Reason() != 0 {
			t.Errorf("the quick client got %d of %d, reason %v", n, frames, quickConn.Reason())
		}
		if slowConn.Reason() != proto.CloseSlowConsumer {
			t.Fatalf("the slow client: reason %v", slowConn.Reason())
		}
		texts, code, reason := slow.untilClose()
		if texts == 0 || texts >= frames || code != uint16(proto.CloseSlowConsumer) || reason != "slow-consumer" {
			t.Errorf("the slow client read %d frames, then %d %q", texts, code, reason)
		}
		slow.goodbye(code)
		slow.end()
		if code := s.ended(); code != proto.CloseSlowConsumer {
			t.Errorf("it ended with %v", code)
		}
	})
}

// A burst between two flushes is no reason to hang up while the socket has
// room for it. (TLS writes by goroutine, and so cannot tell.)
func TestBurstBeforeFlush(t *testing.T) {
	s := newServer(t, Config{MaxQueueBytes: 4000}, "tcp", false)
	p, c := s.connect()
	for i := range 20 {
		c.Send(TextFrame(bytes.Repeat([]byte{byte(i)}, 1000)))
	}
	c.Flush()
	for i := range 20 {
		p.want(opText, string(bytes.Repeat([]byte{byte(i)}, 1000)))
	}
}

// A client that never reads is cut off, by its queue or by the stalled write,
// and whoever sends to it never waits: not for the goodbye either.
func TestNeverReads(t *testing.T) {
	for _, c := range []struct {
		name  string
		queue int // bytes that are sent
	}{{"over the bound", 2 << 20}, {"below the bound", 900 << 10}} {
		t.Run(c.name, func(t *testing.T) {
			forms(t, Config{}, func(t *testing.T, s *server) {
				s.set.writeStall, s.set.closeWait = 200*time.Millisecond, 200*time.Millisecond
				_, conn := s.connect()
				b := TextFrame(make([]byte, 10000))
				longest := time.Duration(0)
				for range c.queue / len(b) {
					begin := time.Now()
					conn.Send(b)
					conn.Flush()
					longest = max(longest, time.Since(begin))
				}
				for done := false; !done; {
					select {
					case code := <-s.codes:
						done = true
						if code != proto.CloseSlowConsumer {
							t.Errorf("got %v", code)
						}
					case <-time.After(time.Millisecond):
						begin := time.Now()
						conn.Flush()
						longest = max(longest, time.Since(begin))
					}
				}
				if longest > 2*time.Second {
					t.Errorf("a sender waited %s", longest)
				}
			})
		})
	}
}

// cut keeps exactly the frames that are on their way, and the numbers right.
func TestCut(t *testing.T) {
	r := random(t)
	for range 20000 {
		c := &Conn{set: NewSet(Config{MaxQueueBytes: 1 << 30}, nil)}
		total := 0
		for range r.IntN(8) {
			b := make([]byte, 1+r.IntN(20))
			c.queue = append(c.queue, b)
			total += len(b)
		}
		if len(c.queue) > 0 {
			c.written = r.IntN(len(c.queue[0]))
			if c.queued = total - c.written; r.IntN(2) == 0 {
				c.inflight = 1 + r.IntN(c.queued)
			}
		}
		lens := make([]int, len(c.queue))
		for i, b := range c.queue {
			lens[i] = len(b)
		}
		state := fmt.Sprintf("frames %v, %d bytes of the first written, %d on their way", lens, c.written, c.inflight)
		begun := c.written + c.inflight // bytes of the queue that cannot be taken back
		want, rest := 0, 0
		for want < len(lens) && rest < begun {
			rest += lens[want]
			want++
		}
		c.cut()
		if len(c.queue) != want || want > 0 && c.queued != rest-c.written || want == 0 && c.queued != 0 {
			t.Fatalf("%s: kept %d frames with %d bytes to go, want %d with %d", state, len(c.queue), c.queued, want, rest-c.written)
		}
		c.advance(c.inflight) // the write that was on its way
		c.advance(c.queued)   // and the rest
		if len(c.queue) != 0 || c.queued != 0 || c.written != 0 {
			t.Fatalf("%s: at the end %d frames, %d bytes, %d written", state, len(c.queue), c.queued, c.written)
		}
	}
}
