package conn_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
)

// A client that reads too slowly is told so with a goodbye that it can read,
// after whole frames; others get everything, and nobody waits for anybody.
func TestSlowConsumer(t *testing.T) {
	const queue, frames = 128 << 10, 3000
	forms(t, conn.Config{MaxQueueBytes: queue, CloseWait: time.Minute}, func(t *testing.T, s *server) {
		slow, slowConn := s.connect()
		quick, quickConn := s.connect()
		got := make(chan int)
		go func() { // ends with the frames, or with the test's patience; waited for through got
			n := 0
			for ; n < frames; n++ {
				if _, payload, err := quick.read(); err != nil ||
					!bytes.HasPrefix(payload, fmt.Appendf(nil, "%d ", n)) {
					t.Errorf("the quick client: frame %d: %.20q, %v", n, payload, err)
					break
				}
			}
			got <- n
		}()
		for i := range frames {
			b := textFrame(fmt.Appendf(nil, "%d %s", i, bytes.Repeat([]byte("x"), i%3000)))
			slowConn.Push(b)
			if n := slowConn.Queued(); slowConn.Reason() == 0 && n > queue {
				t.Errorf("%d bytes are queued, the bound is %d", n, queue)
			}
			// At a pace that the quick one can follow.
			eventually(t, "the quick client has room", func() bool { return quickConn.Queued() < queue/2 })
			quickConn.Push(b)
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
	s := newServer(t, conn.Config{MaxQueueBytes: 4000}, "tcp", false)
	p, c := s.connect()
	for i := range 20 {
		c.Push(textFrame(bytes.Repeat([]byte{byte(i)}, 1000)))
	}
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
			const stall = 5 * time.Second // a sender that waited would do so for as long
			forms(t, conn.Config{WriteStall: stall, CloseWait: 200 * time.Millisecond},
				func(t *testing.T, s *server) {
					_, conn := s.connect()
					b := textFrame(make([]byte, 10000))
					longest := time.Duration(0)
					for range c.queue / len(b) {
						begin := time.Now()
						conn.Push(b)
						longest = max(longest, time.Since(begin))
					}
					if code := s.ended(); code != proto.CloseSlowConsumer {
						t.Errorf("got %v", code)
					}
					if longest > stall*4/5 {
						t.Errorf("a sender waited %s", longest)
					}
				})
		})
	}
}
