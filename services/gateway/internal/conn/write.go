package conn

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/socket"
)

// buffers are for queued frames that are copied together into one write, since a
// write costs much more than its bytes, and for reading.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, socket.BufferBytes); return &b }}

// unsent reports whether something is left that the socket had no room for.
func (c *Conn) unsent() bool { return len(c.queue) > 0 || c.held }

// flush writes what is queued, as much as the socket has room for. The rest follows
// when it has room again.
func (c *Conn) flush() {
	if c.full || c.phase == closed || !c.unsent() {
		return
	}
	if c.writeQueued() {
		c.await()
	}
}

// await has the rest written when the socket has room again: by the poller's Ready,
// or by writeBlocking.
func (c *Conn) await() {
	c.full = true
	if c.polled {
		if c.phase < closeQueued {
			c.arm(c.set.cfg.WriteStall)
		}
		return
	}
	c.set.wg.Go(c.writeBlocking) // ends when the queue is empty or the socket is closed
}

// writeQueued writes without blocking, and reports whether something is left.
func (c *Conn) writeQueued() (left bool) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for c.unsent() {
		n, full, err := c.socket.Write(c.next((*buf)[:0]))
		c.advance(n)
		c.held = full && len(c.queue) == 0
		if err != nil {
			c.kill()
			return false
		}
		if full {
			return true
		}
	}
	return false
}

// next is what to write next: the head of the queue as it is, or several small frames
// copied together into buf.
func (c *Conn) next(buf []byte) []byte {
	if len(c.queue) == 0 {
		return nil
	}
	head := c.queue[0][c.written:]
	if len(c.queue) == 1 || len(head)+len(c.queue[1]) > cap(buf) {
		return head
	}
	buf = append(buf, head...)
	for _, b := range c.queue[1:] {
		if len(buf)+len(b) > cap(buf) {
			break
		}
		buf = append(buf, b...)
	}
	return buf
}

// advance removes n written bytes from the queue.
func (c *Conn) advance(n int) {
	if n == 0 {
		return
	}
	c.lastOut = c.set.clock.Load()
	c.sent += uint64(n)
	c.setQueued(c.queued - n)
	for n > 0 {
		rest := len(c.queue[0]) - int(c.written)
		if n < rest {
			c.written += int32(n)
			break
		}
		n -= rest
		c.written = 0
		c.queue[0] = nil
		c.queue = c.queue[1:]
	}
	if len(c.queue) == 0 {
		c.queue = nil // an idle client holds no memory for a queue
	}
	short := c.set.cfg.replayQueue() / 2
	if c.phase >= closeQueued {
		short = 0 // flushed waits for the last byte
	}
	if c.queued <= short {
		c.unblock()
	}
}

// writeBlocking writes the queue to a socket that has no room, and waits for that,
// until the queue is empty.
func (c *Conn) writeBlocking() {
	s := c.socket.(socket.DeadlineWriter)
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		c.full = false
		if c.phase == closed {
			c.unblock() // stop waits for this
		}
	}()
	for len(c.queue) > 0 && c.phase != closed {
		b := c.next((*buf)[:0])
		if len(b) > socket.BufferBytes {
			b = b[:socket.BufferBytes] // so that the deadline bounds a stall, whatever the size
		}
		within := c.set.cfg.WriteStall
		if c.phase >= closeQueued {
			within = c.set.cfg.CloseWait
		}
		c.inflight = int32(len(b))
		c.mu.Unlock()
		n, err := s.WriteBy(b, time.Now().Add(within))
		c.mu.Lock()
		c.inflight = 0
		if c.phase == closed {
			return
		}
		c.advance(n)
		c.settle()
		if err != nil {
			if isTimeout(err) {
				c.setCode(proto.CloseSlowConsumer)
			}
			c.kill()
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// flushed waits until the queue is empty, which CloseWait bounds after a goodbye, and
// reports whether it is; false: the socket is closed.
func (c *Conn) flushed() bool {
	for {
		c.mu.Lock()
		if c.phase == closed || len(c.queue) == 0 {
			defer c.mu.Unlock()
			return c.phase != closed
		}
		unblocked := c.wait()
		c.mu.Unlock()
		<-unblocked
	}
}
