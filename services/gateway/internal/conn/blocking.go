package conn

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/herald-push/herald/proto"
)

// blocking is a socket that goroutines wait for: of systems other than Linux,
// and where no poller takes it. A client has one goroutine, its reader; another
// exists while the socket is full.
type blocking struct{ net.Conn }

func (s blocking) closeWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// close closes, of TLS, the socket beneath: tls.Conn.Close waits up to 5 s
// until its alert is written, and c.mu is held here.
func (s blocking) close() {
	nc := s.Conn
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	_ = nc.Close() // nothing can be done about a socket that does not close
}

// plain is a blocking socket that can be written to without blocking, too.
type plain struct {
	blocking
	raw syscall.RawConn
}

func (s plain) writeNow(b []byte) (n int, full bool, err error) {
	n, err = writeNow(s.raw, b)
	return n, n < len(b), err
}

func (s blocking) leaving() {}

// deadlined is what drain writes to.
type deadlined interface {
	Write(b []byte) (int, error)
	SetWriteDeadline(t time.Time) error
}

// readBuffer is what one read takes. Clients send little.
const readBuffer = 512

// read reads until the connection is over.
func (c *Conn) read() {
	nc := c.wire.(io.Reader)
	buf := make([]byte, readBuffer)
	for {
		n, err := nc.Read(buf)
		c.mu.Lock()
		if n > 0 && !c.dead {
			c.received(buf[:n])
		}
		if err != nil && c.closing { // nothing more comes; the goodbye is still to be written
			c.deaf, c.over = true, true
		}
		inbox, deaf := c.inbox, c.deaf
		c.inbox, c.waiting = nil, 0
		c.mu.Unlock()
		c.busy.Store(true)
		for _, m := range inbox {
			if c.Reason() != 0 {
				break // what is said after a goodbye is not heard
			}
			c.hand(m)
		}
		c.busy.Store(false)
		if deaf && c.flushed() {
			c.linger()
		}
		if err != nil || deaf {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kill()
}

// flushed waits until the goodbye is out, which closeWait bounds, and reports
// whether it is.
func (c *Conn) flushed() bool {
	for {
		c.mu.Lock()
		if c.dead || len(c.queue) == 0 {
			defer c.mu.Unlock()
			return !c.dead
		}
		room := c.waitForRoom()
		c.mu.Unlock()
		<-room
	}
}

// linger is settle for a socket that goroutines wait for.
func (c *Conn) linger() {
	if c.wire.closeWrite() != nil {
		return
	}
	c.mu.Lock()
	over := c.over
	c.mu.Unlock()
	if !over {
		_, _ = io.Copy(io.Discard, c.wire.(io.Reader)) // ends with closeWait at the latest
	}
}

// drain writes the queue to a full socket, waiting for it, until it is empty.
func (c *Conn) drain() {
	nc := c.wire.(deadlined)
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		// A deadline left behind would fail the next non-blocking write.
		_ = nc.SetWriteDeadline(time.Time{}) // fails only on a closed socket
		c.draining = false
		if c.dead {
			c.release() // Stream waits for this
		}
	}()
	for len(c.queue) > 0 && !c.dead {
		b := c.next((*buf)[:0])
		if len(b) > coalesce {
			b = b[:coalesce] // so that the deadline bounds a stall, not the size
		}
		stall := c.set.writeStall
		if c.closing {
			stall = c.set.closeWait
		}
		c.inflight = len(b)
		c.mu.Unlock()
		n := 0
		err := nc.SetWriteDeadline(time.Now().Add(stall))
		if err == nil {
			n, err = nc.Write(b)
		}
		c.mu.Lock()
		c.inflight = 0
		if c.dead {
			return
		}
		c.advance(n)
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
