package conn

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// ErrClosed: the connection is closing or closed; what is sent goes nowhere.
var ErrClosed = errors.New("connection closed")

// Times that bound a goodbye and a stuck write.
const (
	// writeStall is how long one write to a full socket may take to move at
	// all. The queue's bound usually ends a slow client sooner.
	writeStall = 10 * time.Second
	// closeWait is how long the client may take to answer a close frame, or
	// to read what was queued before it.
	closeWait = 2 * time.Second
)

// coalesce is how many queued bytes are copied together into one write. 16 KiB
// is what a TLS record holds.
const coalesce = 16 << 10

var scratch = sync.Pool{New: func() any { b := make([]byte, 0, coalesce); return &b }}

// Conn is one client. The zero value is not usable: Set.Accept and Set.Stream
// make them. All methods are safe for concurrent use.
type Conn struct {
	// Fixed after it was made.
	id        string
	remote    netip.Addr
	nc        net.Conn
	raw       syscall.RawConn // nil: no non-blocking writes
	ws        *websocket.Conn // nil: one way
	oneWay    bool            // an HTTP stream: nothing comes back
	set       *Set
	goodbye   func(proto.CloseCode) []byte // the last bytes for a client of this kind
	heartbeat []byte                       // sent to the silent
	slot      int                          // of the set's heartbeat wheel
	maxQueue  int                          // bytes

	lastIn, lastOut atomic.Int64 // Unix nanoseconds; lastOut of a successful write

	place  int   // guarded by set.mu; index in its slot
	pinged int64 // owned by Set.Run; Unix nanoseconds of the unanswered ping, 0: none

	mu       sync.Mutex
	queue    [][]byte        // guarded by mu; the first may be half written
	written  int             // guarded by mu; bytes of queue[0] that are out
	queued   int             // guarded by mu; bytes in queue that are not out
	inflight int             // guarded by mu; bytes from the head of queue that drain is writing
	draining bool            // guarded by mu; a drain goroutine owns the socket's write side
	closing  bool            // guarded by mu; the goodbye is queued, nothing may follow
	dead     bool            // guarded by mu; the socket is closed
	code     proto.CloseCode // guarded by mu; why; 0 while it is open
	room     chan struct{}   // guarded by mu; closed when the queue is short again; nil: nobody waits
}

// ID is the connection's id, as in the log and the welcome frame.
func (c *Conn) ID() string { return c.id }

// Remote is the client's address.
func (c *Conn) Remote() netip.Addr { return c.remote }

// Reason is why the connection ended, or 0 while it is open.
func (c *Conn) Reason() proto.CloseCode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}

// Send queues one or more whole frames for the client. b is kept, and must
// never be changed. Flush writes.
func (c *Conn) Send(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(b)
}

func (c *Conn) send(b []byte) {
	if len(b) == 0 {
		return // the queue holds only what there is to write
	}
	if c.overflows(b) {
		c.flush() // a burst came before the next Flush: the socket may have room
		if c.overflows(b) {
			c.close(proto.CloseSlowConsumer)
		}
	}
	if c.closing || c.dead {
		return
	}
	c.queue = append(c.queue, b)
	c.queued += len(b)
}

// overflows reports whether b finds no room. An empty queue takes anything:
// else a message above the bound would send its client away for ever.
func (c *Conn) overflows(b []byte) bool { return c.queued > 0 && c.queued+len(b) > c.maxQueue }

// Flush writes what is queued, as much as the socket takes without waiting.
// The rest is written by a goroutine that ends when the queue is empty.
func (c *Conn) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
}

func (c *Conn) flush() {
	if c.draining || c.dead || len(c.queue) == 0 {
		return
	}
	if c.raw != nil && !c.writeQueued() {
		return
	}
	c.draining = true
	c.set.wg.Go(c.drain) // ends when the queue is empty or the socket is closed
}

// writeQueued writes without blocking and reports whether something is left.
func (c *Conn) writeQueued() (left bool) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	for len(c.queue) > 0 {
		b := c.next((*buf)[:0])
		n, err := writeNow(c.raw, b)
		c.advance(n)
		if err != nil {
			c.kill()
			return false
		}
		if n < len(b) {
			return true
		}
	}
	return false
}

// next is what to write next: the head of the queue as it is, or several
// small frames copied together, since the cost is per write, not per byte.
func (c *Conn) next(buf []byte) []byte {
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

// advance drops n written bytes from the queue.
func (c *Conn) advance(n int) {
	if n == 0 {
		return
	}
	c.lastOut.Store(time.Now().UnixNano())
	c.queued -= n
	for n > 0 {
		rest := len(c.queue[0]) - c.written
		if n < rest {
			c.written += n
			break
		}
		n -= rest
		c.written = 0
		c.queue[0] = nil
		c.queue = c.queue[1:]
	}
	if len(c.queue) == 0 {
		c.queue = nil // an idle client keeps no queue
	}
	enough := c.maxQueue / 4
	if c.closing {
		enough = 0 // flushed waits for the last byte
	}
	if c.queued <= enough {
		c.release()
	}
}

// drain writes the queue to a full socket, waiting for it, until it is empty.
func (c *Conn) drain() {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		// A deadline left behind would fail the next non-blocking write.
		_ = c.nc.SetWriteDeadline(time.Time{}) // fails only on a closed socket
		c.draining = false
		if c.dead {
			c.release() // stopped waits for this
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
		err := c.nc.SetWriteDeadline(time.Now().Add(stall))
		if err == nil {
			n, err = c.nc.Write(b)
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

func (c *Conn) setCode(code proto.CloseCode) {
	if c.code == 0 {
		c.code = code
	}
}

// SendWait is Send and Flush for a replay: it waits while the client is busy
// with what it was sent before. ErrClosed means that the client is gone.
func (c *Conn) SendWait(ctx context.Context, b []byte) error {
	for {
		c.mu.Lock()
		if c.closing || c.dead {
			c.mu.Unlock()
			return ErrClosed
		}
		if c.queued+len(b) <= c.maxQueue/2 || c.queued == 0 {
			c.send(b)
			c.flush()
			c.mu.Unlock()
			return nil
		}
		room := c.waiting()
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waiting is closed when the queue is short again, or, once the goodbye is in
// it, empty; and when nothing will be written any more.
func (c *Conn) waiting() <-chan struct{} {
	if c.room == nil {
		c.room = make(chan struct{})
	}
	return c.room
}

// flushed waits until the goodbye is out, at most closeWait, and reports
// whether it is.
func (c *Conn) flushed() bool {
	timeout := time.NewTimer(c.set.closeWait)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		if c.dead || len(c.queue) == 0 {
			defer c.mu.Unlock()
			return !c.dead
		}
		room := c.waiting()
		c.mu.Unlock()
		select {
		case <-room:
		case <-timeout.C:
			return false
		}
	}
}

// Close says goodbye with this code: what is queued goes out first (of a slow
// consumer's queue only a frame that is half written), then the close frame;
// then the client has closeWait to answer. It does not wait for that: Serve
// returns when it is over. The first code counts.
func (c *Conn) Close(code proto.CloseCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(code)
}

func (c *Conn) close(code proto.CloseCode) {
	if c.closing || c.dead {
		return
	}
	c.setCode(code)
	if code == proto.CloseSlowConsumer {
		c.cut()
	}
	c.leave(c.goodbye(code))
}

// leave queues the last bytes, after which nothing may follow.
func (c *Conn) leave(b []byte) {
	if len(b) > 0 {
		c.queue = append(c.queue, b)
		c.queued += len(b)
	}
	c.closing = true
	c.release() // there will be no more room
	c.flush()
	if c.dead {
		return
	}
	// The reader gets the client's answer, or this deadline.
	if err := c.nc.SetReadDeadline(time.Now().Add(c.set.closeWait)); err != nil {
		c.kill()
	}
}

// cut drops what is queued, but for frames that are on their way: after half
// a frame the client could not read the goodbye.
func (c *Conn) cut() {
	begun := max(c.inflight, min(c.written, 1)) // bytes from the head that must go out whole
	keep, queued := 0, -c.written
	for keep < len(c.queue) && queued < begun {
		queued += len(c.queue[keep])
		keep++
	}
	if keep == 0 {
		queued = 0
	}
	clear(c.queue[keep:])
	c.queue, c.queued = c.queue[:keep], queued
}

// release wakes whoever waits for room.
func (c *Conn) release() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// kill closes the socket. Reader and drainer find out by their errors. Of TLS
// it closes the socket beneath: tls.Conn.Close waits up to 5 s until its alert
// is written, and c.mu is held here.
func (c *Conn) kill() {
	if c.dead {
		return
	}
	c.dead = true
	c.queue, c.queued, c.written = nil, 0, 0
	c.release()
	nc := c.nc
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	_ = nc.Close() // nothing can be done about a socket that does not close
}

// end is called once by the goroutine that served the connection.
func (c *Conn) end() proto.CloseCode {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setCode(proto.CloseNormal)
	c.kill()
	return c.code
}

// socket is the net.Conn that gorilla sees. What gorilla writes itself (the
// handshake, pongs) goes through the queue like everything else, so nothing
// cuts into a half-written frame. Its close frames do not: ended has its own.
type socket struct{ *Conn }

func (s socket) Read(p []byte) (int, error) {
	n, err := s.nc.Read(p)
	if n > 0 {
		s.lastIn.Store(time.Now().UnixNano())
	}
	return n, err
}

func (s socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.dead:
		return 0, ErrClosed
	case s.closing, p[0] == opClose:
		// A pong after our goodbye: an error would end the reading before the
		// client's answer.
		return len(p), nil
	}
	s.send(append([]byte(nil), p...))
	s.flush()
	return len(p), nil
}

func (s socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	return nil
}

func (s socket) LocalAddr() net.Addr               { return s.nc.LocalAddr() }
func (s socket) RemoteAddr() net.Addr              { return s.nc.RemoteAddr() }
func (s socket) SetDeadline(t time.Time) error     { return s.nc.SetDeadline(t) }
func (s socket) SetReadDeadline(t time.Time) error { return s.nc.SetReadDeadline(t) }

// SetWriteDeadline is the queue's business.
func (s socket) SetWriteDeadline(time.Time) error { return nil }

var _ io.ReadWriteCloser = socket{}
