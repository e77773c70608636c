package conn

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

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

// Conn is one client: memory of the caller's, which makes it part of what it
// has for each client anyway. Set.Accept and Set.Stream make it usable; from
// then on it must not be copied. All methods are safe for concurrent use.
type Conn struct {
	// What a delivery to an idle socket looks at stands together: with many
	// clients each cache line that it touches has to be fetched anew.
	mu       sync.Mutex
	draining bool            // guarded by mu; the socket was full: drain or the poller goes on when it takes more
	backlog  bool            // guarded by mu; the queue is empty, but the wire holds back some of what it took
	closing  bool            // guarded by mu; the goodbye is queued, nothing may follow
	dead     bool            // guarded by mu; the socket is closed
	code     proto.CloseCode // guarded by mu; why; 0 while it is open
	queue    [][]byte        // guarded by mu; the first may be half written
	quick    quick           // fixed; the wire, where writes need not block; else nil
	socket   descriptor      // the wire of a parked connection, or what is beneath it
	lastOut  int64           // guarded by mu; Set.clock at the last successful write
	set      *Set            // fixed

	written  int           // guarded by mu; bytes of queue[0] that are out
	queued   int           // guarded by mu; bytes in queue that are not out
	inflight int           // guarded by mu; bytes from the head of queue that drain is writing
	room     chan struct{} // guarded by mu; closed when the queue is short again; nil: nobody waits
	timer    *time.Timer   // guarded by mu; for a stalled write or a goodbye; nil: neither
	deadline int64         // guarded by mu; Unix nanoseconds when timer is due; 0: it is not

	incoming // guarded by mu

	// Fixed after it was made.
	id       string
	remote   netip.Addr
	format   *Format
	client   Client
	wire     wire    // what it is written to
	poller   *poller // tells when the socket is ready; nil: goroutines wait for it
	oneWay   bool    // an HTTP stream: nothing comes in
	deflates bool    // what Deflates says

	busy   atomic.Bool  // the client is called and nothing is read meanwhile: no pong is heard
	lastIn atomic.Int64 // Unix nanoseconds
	slot   int32        // fixed; of the set's wheel
	place  int32        // guarded by set.mu; index in its slot
	pinged int64        // owned by Set.Run; Unix nanoseconds of the unanswered ping, 0: none
	ends   int64        // guarded by mu; Unix nanoseconds when it ends at the latest, 0: it does not: see Expire
}

// wire is a socket as a Conn needs it.
type wire interface {
	// closeWrite says that nothing more is coming. It may block where there is
	// no poller.
	closeWrite() error
	// close ends the socket and whatever waits for it. It does not block.
	close()
	// leaving is told that the goodbye is queued.
	leaving()
}

// quick is a socket that takes what it has room for without blocking.
type quick interface {
	// writeNow takes n bytes of b, which may be empty. full means that the
	// socket took no more: of b, or of what the wire made of it and holds back.
	writeNow(b []byte) (n int, full bool, err error)
}

// ID is the connection's id, as in the log and the welcome frame.
func (c *Conn) ID() string { return c.id }

// Remote is the client's address.
func (c *Conn) Remote() netip.Addr { return c.remote }

// Deflates reports whether the client negotiated permessage-deflate. Any other
// must be sent nothing that is compressed.
func (c *Conn) Deflates() bool { return c.deflates }

// Reason is why the connection ended, or 0 while it is open.
func (c *Conn) Reason() proto.CloseCode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}

// Push sends one or more whole frames to the client: as much as the socket
// takes at once, the rest when it takes more. b is kept until then, and must
// never be changed. It does not block.
func (c *Conn) Push(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.push(b)
}

func (c *Conn) push(b []byte) {
	if c.quick == nil || c.draining || c.closing || c.dead || len(c.queue) > 0 || len(b) == 0 {
		c.send(b)
		c.flush()
		return
	}
	n, full, err := c.quick.writeNow(b) // the usual case, without a queue
	if n > 0 {
		c.lastOut = c.set.clock.Load()
	}
	if err != nil {
		c.kill()
		return
	}
	if n < len(b) {
		c.queue, c.written, c.queued = append(c.queue, b), n, len(b)-n
	}
	if full {
		c.backlog = n == len(b)
		c.await()
	}
}

// send queues.
func (c *Conn) send(b []byte) {
	if len(b) == 0 {
		return // the queue holds only what there is to write
	}
	if c.overflows(b) {
		c.flush() // a burst came before the next flush: the socket may have room
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
func (c *Conn) overflows(b []byte) bool {
	return c.queued > 0 && c.queued+len(b) > c.set.cfg.MaxQueueBytes
}

// flush writes what is queued, as much as the socket takes without waiting. The
// rest follows when the socket takes more.
func (c *Conn) flush() {
	if c.draining || c.dead || !c.unsent() {
		return
	}
	if c.quick == nil || c.writeQueued() {
		c.await()
	}
}

// unsent reports whether something is left that the socket has not taken.
func (c *Conn) unsent() bool { return len(c.queue) > 0 || c.backlog }

// await goes on when the socket takes more.
func (c *Conn) await() {
	c.draining = true
	if c.poller != nil { // it says when there is room
		if !c.closing {
			c.arm(c.set.writeStall)
		}
		return
	}
	c.set.wg.Go(c.drain) // ends when the queue is empty or the socket is closed
}

// writeQueued writes without blocking and reports whether something is left.
func (c *Conn) writeQueued() (left bool) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	for c.unsent() {
		n, full, err := c.quick.writeNow(c.next((*buf)[:0]))
		c.advance(n)
		c.backlog = full && len(c.queue) == 0
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

// next is what to write next: the head of the queue as it is, or several
// small frames copied together, since the cost is per write, not per byte.
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

// advance drops n written bytes from the queue.
func (c *Conn) advance(n int) {
	if n == 0 {
		return
	}
	c.lastOut = c.set.clock.Load()
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
	enough := c.set.cfg.MaxQueueBytes / 4
	if c.closing {
		enough = 0 // flushed waits for the last byte
	}
	if c.queued <= enough {
		c.release()
	}
}

func (c *Conn) setCode(code proto.CloseCode) {
	if c.code == 0 {
		c.code = code
	}
}

// SendWait is Push for a replay: it waits while the client is busy
// with what it was sent before. ErrClosed means that the client is gone.
func (c *Conn) SendWait(ctx context.Context, b []byte) error {
	for {
		c.mu.Lock()
		if c.queued > 0 && c.queued+len(b) > c.set.cfg.MaxQueueBytes/2 {
			c.flush() // others may have sent, and not flushed yet
		}
		if c.closing || c.dead {
			c.mu.Unlock()
			return ErrClosed
		}
		if c.queued+len(b) <= c.set.cfg.MaxQueueBytes/2 || c.queued == 0 {
			c.send(b)
			c.flush()
			c.mu.Unlock()
			return nil
		}
		if c.parting { // what it said before is answered, as far as it reads; it is not told more
			c.mu.Unlock()
			return ErrClosed
		}
		room := c.waitForRoom()
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitForRoom is closed when the queue is short again, or, once the goodbye
// is in it, empty; and when nothing will be written any more.
func (c *Conn) waitForRoom() <-chan struct{} {
	if c.room == nil {
		c.room = make(chan struct{})
	}
	return c.room
}

// release wakes whoever waits for room.
func (c *Conn) release() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// Close says goodbye with this code: what is queued goes out first (of a slow
// consumer's queue only a frame that is half written), then the close frame;
// then the client has closeWait to answer. It does not wait for that. The
// first code counts.
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
	c.leave(c.format.Goodbye(code))
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
	c.arm(c.set.closeWait)
	c.wire.leaving()
	c.settle()
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

// arm ends the connection after d, unless disarm comes before.
func (c *Conn) arm(d time.Duration) {
	c.deadline = time.Now().Add(d).UnixNano()
	if c.timer == nil {
		c.timer = time.AfterFunc(d, c.timeout)
	} else {
		c.timer.Reset(d)
	}
}

func (c *Conn) disarm() {
	if c.timer != nil && !c.closing {
		c.timer.Stop()
		c.timer, c.deadline = nil, 0
	}
}

// timeout is called by the timer.
func (c *Conn) timeout() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.deadline == 0 || time.Now().UnixNano() < c.deadline {
		return // it was set anew while this waited for the lock
	}
	c.setCode(proto.CloseSlowConsumer) // unless it is closing for another reason
	c.kill()
}

// kill closes the socket and, unless somebody is at work who does, ends the
// connection.
func (c *Conn) kill() {
	if c.dead {
		return
	}
	c.setCode(proto.CloseNormal)
	c.dead = true
	c.queue, c.queued, c.written, c.backlog = nil, 0, 0, false
	c.release()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.wire.close()
	if c.poller != nil && !c.working {
		c.working = true
		go c.finish() // counted by reserve; ends when the client has
	}
}

// finish is called once, by whoever served the connection last.
func (c *Conn) finish() {
	defer c.set.wg.Done()
	c.set.remove(c)
	c.client.Ended()
}
