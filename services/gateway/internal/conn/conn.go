package conn

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/socket"
)

// ErrClosed is returned for a connection that is closing or closed, and for a Set
// that drains.
var ErrClosed = errors.New("connection closed")

// phase is how far a connection has come; the package comment has the table.
type phase uint8

const (
	open phase = iota
	closeReceived
	closeQueued // from here on nothing is enqueued
	closeSent
	errorQueued
	halfClosed
	lastQueued
	closed
)

// discards reports whether everything that still comes from the client is
// discarded.
func (p phase) discards() bool { return p == closeReceived || p >= errorQueued }

// Conn is one client. Its memory is the caller's, who has some for each client
// anyway; Set.Accept, Set.Respond or Set.Attach makes it usable, and from then on it
// must not be copied. All methods are safe for concurrent use.
type Conn struct {
	// What a delivery to an idle client touches stands together: with many clients
	// each cache line has to be fetched anew.
	mu      sync.Mutex
	phase   phase           // guarded by mu
	full    bool            // guarded by mu; the socket had no room: the poller's Ready or writeBlocking writes next
	held    bool            // guarded by mu; the queue is empty, but the socket keeps bytes that it had no room for
	code    proto.CloseCode // guarded by mu; why the connection ends; 0: it does not
	polled  bool            // fixed; socket is a socket.Polled
	oneWay  bool            // fixed; socket is a response: nothing comes in
	queue   [][]byte        // guarded by mu; the first may be partly written
	socket  socket.Socket   // fixed
	lastOut int64           // guarded by mu; Set.clock at the last successful write
	set     *Set            // fixed
	sent    uint64          // guarded by mu; bytes that were written to the socket
	parked  socket.Parked   // memory of the socket, or of the one beneath TLS, if it is polled

	messages  uint64        // guarded by mu; see PushMessages
	written   int32         // guarded by mu; bytes of queue[0] that are written
	inflight  int32         // guarded by mu; bytes from the head of queue that writeBlocking is writing
	queued    int           // guarded by mu, changed by setQueued; bytes in queue that are not written
	unblocked chan struct{} // guarded by mu; closed by unblock; nil: nobody waits
	timer     *time.Timer   // guarded by mu; for a stalled write or a goodbye; nil: neither
	deadline  int64         // guarded by mu; Set.now when timer is due; 0: it is not

	incoming // guarded by mu

	// Fixed after it was made.
	id     string
	remote netip.Addr
	format *Format
	client Client

	deflates   atomic.Bool  // see Deflates
	notReading atomic.Bool  // the client is not read from while its Client is busy: its pong would not be seen
	lastIn     atomic.Int64 // Set.now when something came last
	slot       int32        // fixed; of the set's wheel
	place      int32        // guarded by set.mu; index in its slot
	// owned by Set.Run; Set.now of the last heartbeat, 0 after an answer; in a Steady format it begins with the
	// connection, and stays
	pinged  int64
	expires int64 // guarded by mu; Unix milliseconds; 0: never; see Expire
}

// ID is the connection's id, as in the log and the welcome frame.
func (c *Conn) ID() string { return c.id }

// Remote is the client's address.
func (c *Conn) Remote() netip.Addr { return c.remote }

// Deflates reports whether the client negotiated permessage-deflate. Compressed
// frames must not be pushed to any other.
func (c *Conn) Deflates() bool { return c.deflates.Load() }

// Deflate says that the client negotiated permessage-deflate. A socket that was given to Attach and
// becomes a WebSocket calls it before its Read returns the first bytes of that WebSocket.
func (c *Conn) Deflate() { c.deflates.Store(true) }

// Reason is why the connection ended or is ending; 0: it is open.
func (c *Conn) Reason() proto.CloseCode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}

// Queued is how many bytes wait until the socket has room for them.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

// Push sends one or more whole frames to the client: it writes as much as the socket
// has room for, and enqueues the rest. It may keep b; nobody may change b
// afterwards. It does not block. On a connection that is closing it does nothing.
func (c *Conn) Push(b []byte) { c.PushMessages(b, 0) }

// PushMessages is Push for the frames of so many messages, which are counted. It returns
// what became of them.
func (c *Conn) PushMessages(b []byte, n int) Fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages += uint64(n)
	c.push(b)
	switch {
	case c.phase >= closeQueued:
		return Dropped
	case c.queued > 0:
		return Queued
	}
	return Written
}

func (c *Conn) push(b []byte) {
	if c.full || c.phase >= closeQueued || len(c.queue) > 0 || len(b) == 0 {
		c.enqueue(b)
		c.flush()
		return
	}
	n, full, err := c.socket.Write(b) // the usual case: the queue is empty and stays so
	if n > 0 {
		c.lastOut = c.set.clock.Load()
		c.sent += uint64(n)
	}
	if err != nil {
		c.kill()
		return
	}
	if n < len(b) {
		c.queue, c.written = append(c.queue, b), int32(n)
		c.setQueued(len(b) - n)
	}
	if full {
		c.held = n == len(b)
		c.await()
	}
}

// enqueue appends to the queue, or closes the connection if b exceeds its bound.
func (c *Conn) enqueue(b []byte) {
	if len(b) == 0 {
		return // an entry of the queue has at least one byte to write
	}
	if c.exceeds(b) {
		c.flush() // a burst may have come before the socket was asked for room
		if c.exceeds(b) {
			c.close(proto.CloseSlowConsumer)
		}
	}
	if c.phase >= closeQueued {
		return
	}
	c.queue = append(c.queue, b)
	c.setQueued(c.queued + len(b))
}

// exceeds reports whether the queue has no room for b. An empty one has room for
// anything: otherwise a message above the bound would send its client away each time
// that it comes back.
func (c *Conn) exceeds(b []byte) bool {
	return c.queued > 0 && c.queued+len(b) > c.set.cfg.MaxQueueBytes
}

// replayQueue is how many bytes SendWait queues: a replay is its client's own
// memory, where live messages are shared.
func (c *Config) replayQueue() int { return min(c.MaxQueueBytes/2, 128<<10) }

// SendWait is PushMessages for one message of a replay: while much is queued for the client it waits.
// ErrClosed means that the connection is closing, or that the client has said goodbye.
func (c *Conn) SendWait(ctx context.Context, b []byte) error {
	for {
		c.mu.Lock()
		if c.queued > 0 && c.queued+len(b) > c.set.cfg.replayQueue() {
			c.flush() // the socket may have room by now
		}
		if c.phase >= closeQueued {
			c.mu.Unlock()
			return ErrClosed
		}
		if c.queued+len(b) <= c.set.cfg.replayQueue() || c.queued == 0 {
			c.messages++
			c.push(b)
			c.mu.Unlock()
			return nil
		}
		if c.phase == closeReceived { // it said goodbye: it is not waited for
			c.mu.Unlock()
			return ErrClosed
		}
		unblocked := c.wait()
		c.mu.Unlock()
		select {
		case <-unblocked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait returns a channel that unblock closes: when the queue is short again or, from
// closeQueued on, empty; and when nothing will be written any more.
func (c *Conn) wait() <-chan struct{} {
	if c.unblocked == nil {
		c.unblocked = make(chan struct{})
	}
	return c.unblocked
}

func (c *Conn) unblock() {
	if c.unblocked != nil {
		close(c.unblocked)
		c.unblocked = nil
	}
}

// Close says goodbye with this code: it enqueues the close frame behind what is
// queued (of a slow consumer's queue only a frame that is partly written is kept);
// then the client has CloseWait to answer. It does not block. The first code counts.
func (c *Conn) Close(code proto.CloseCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(code)
}

func (c *Conn) close(code proto.CloseCode) {
	if c.phase >= closeQueued {
		return
	}
	next := closeQueued
	if c.phase == closeReceived {
		next = lastQueued
	}
	c.setCode(code)
	if code == proto.CloseSlowConsumer {
		c.cut()
	}
	c.enqueueLast(c.format.Goodbye(code), next)
}

// answerClose answers the client's close frame by one with its code, unless ours is
// queued already (RFC 6455 section 5.5.1).
func (c *Conn) answerClose(answer []byte) {
	if c.phase >= closeQueued {
		return
	}
	c.pong()
	c.setCode(proto.CloseNormal)
	c.enqueueLast(answer, lastQueued)
}

// enqueueLast enqueues the goodbye, after which nothing may follow, and enters a phase.
func (c *Conn) enqueueLast(b []byte, next phase) {
	if len(b) > 0 {
		c.queue = append(c.queue, b)
		c.setQueued(c.queued + len(b))
	}
	c.phase = next
	c.unblock() // who waits for the queue to be short waits in vain
	c.flush()
	if c.phase == closed {
		return
	}
	c.arm(c.set.cfg.CloseWait)
	if s, ok := c.socket.(*response); ok {
		s.end()
	}
	c.settle()
}

// settle enters the next phase if the queue is empty. It is called when the phase or
// the queue has changed. With a blocking socket the reader ends the connection
// (linger), because CloseWrite may block.
func (c *Conn) settle() {
	if c.unsent() {
		return
	}
	switch {
	case c.phase == closeQueued:
		c.phase = closeSent
	case c.phase == errorQueued && c.polled:
		c.phase = halfClosed
		if c.socket.CloseWrite() != nil {
			c.kill()
		}
	case c.phase == lastQueued && c.polled:
		c.kill()
	}
}

func (c *Conn) setCode(code proto.CloseCode) {
	if c.code == 0 {
		c.code = code
	}
}

// cut removes what is queued except for frames that are partly written: after half a
// frame the client could not read the goodbye.
func (c *Conn) cut() {
	begun := int(max(c.inflight, min(c.written, 1))) // bytes from the head that must go out whole
	keep, queued := 0, -int(c.written)
	for keep < len(c.queue) && queued < begun {
		queued += len(c.queue[keep])
		keep++
	}
	if keep == 0 {
		queued = 0
	}
	clear(c.queue[keep:])
	c.queue = c.queue[:keep]
	c.setQueued(queued)
}

// arm ends the connection after d, unless disarm is called before.
func (c *Conn) arm(d time.Duration) {
	c.deadline = c.set.now() + int64(d)
	if c.timer == nil {
		c.timer = time.AfterFunc(d, c.timeout)
	} else {
		c.timer.Reset(d)
	}
}

func (c *Conn) disarm() {
	if c.timer != nil && c.phase < closeQueued {
		c.timer.Stop()
		c.timer, c.deadline = nil, 0
	}
}

// timeout is called by the timer.
func (c *Conn) timeout() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == closed || c.deadline == 0 || c.set.now() < c.deadline {
		return // arm or disarm was called while this waited for the lock
	}
	c.setCode(proto.CloseSlowConsumer) // unless it is closing for another reason
	c.kill()
}

// kill closes the socket. Whoever calls the Client then calls its Ended, too; if
// nobody does, a goroutine of its own does that.
func (c *Conn) kill() {
	if c.phase == closed {
		return
	}
	c.setCode(proto.CloseNormal)
	c.phase = closed
	c.queue, c.written, c.held = nil, 0, false
	c.setQueued(0)
	c.unblock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.socket.Close()
	if c.polled && !c.handling {
		c.handling = true
		go c.finish() // counted by reserve; ends when the Client has
	}
}

// finish is called once, by whoever called the Client last.
func (c *Conn) finish() {
	defer c.set.wg.Done()
	c.set.remove(c)
	c.client.Ended()
}
