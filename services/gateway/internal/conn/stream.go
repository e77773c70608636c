package conn

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
)

// Format is how clients of an HTTP stream are told what is not a message.
// Both return whole frames.
type Format struct {
	// Heartbeat is sent to the silent. Nothing comes back, so a client that
	// vanished is noticed by a write that fails or a queue that fills.
	Heartbeat []byte
	Goodbye   func(proto.CloseCode) []byte
}

// Stream makes a client of an HTTP response that does not end (HTTP/1.1 or
// HTTP/2) and calls serve with it in this goroutine, the handler's; serve must
// call Serve. It returns when nobody writes to w any more. ErrClosed means
// that the set drains, and that nothing was written. The caller has set the
// headers; the status is 200.
func (s *Set) Stream(w http.ResponseWriter, r *http.Request, remote netip.Addr, id string, format Format, serve func(*Conn)) error {
	if !s.reserve() {
		return ErrClosed
	}
	defer s.wg.Done()
	st := &stream{w: w, rc: http.NewResponseController(w), ctx: r.Context(), leaving: make(chan struct{})}
	// The response lasts longer than the server's timeouts allow; each write
	// has a deadline of its own instead.
	_ = st.rc.SetReadDeadline(time.Time{})  // fails only where there is no deadline
	_ = st.rc.SetWriteDeadline(time.Time{}) // likewise
	c := s.newConn(id, remote)
	c.nc, c.oneWay, c.goodbye, c.heartbeat = st, true, format.Goodbye, format.Heartbeat
	if s.add(c) {
		c.Close(proto.CloseGoingAway) // Drain did not see it
	}
	serve(c)
	c.stopped()
	_ = st.rc.SetWriteDeadline(time.Now().Add(s.closeWait)) // for the end of the body
	return nil
}

// serveStream waits until the client is gone or told to leave.
func (c *Conn) serveStream() proto.CloseCode {
	st := c.nc.(*stream)
	select {
	case <-st.ctx.Done():
	case <-st.leaving:
		if c.flushed() {
			st.finish()
		}
	}
	return c.end()
}

// stopped waits until no drain goroutine of a dead connection is left.
func (c *Conn) stopped() {
	for {
		c.mu.Lock()
		if !c.draining {
			c.mu.Unlock()
			return
		}
		room := c.waiting()
		c.mu.Unlock()
		<-room
	}
}

// stream is an HTTP response as the net.Conn that a Conn writes to. Only the
// one drain goroutine writes.
type stream struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	ctx     context.Context // the request's: ends when the client is gone
	leaving chan struct{}   // closed when the goodbye is queued or the stream is dead

	mu     sync.Mutex
	closed bool // guarded by mu; no write may begin
	left   bool // guarded by mu; leaving is closed
}

// Write puts b on the wire.
func (s *stream) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil {
		return 0, err // what net/http holds back may never arrive
	}
	return n, nil
}

// SetWriteDeadline comes before each write: so none begins after Close.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.rc.SetWriteDeadline(t)
}

// SetReadDeadline is how a Conn says that its goodbye is queued and an answer
// due. There is none over a stream: serveStream ends it when all is out.
func (s *stream) SetReadDeadline(time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave()
	return nil
}

// finish forbids further writes; the response ends well.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// Close cuts off a write under way.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.rc.SetWriteDeadline(time.Unix(1, 0))
}

func (s *stream) leave() { // mu is held
	if !s.left {
		s.left = true
		close(s.leaving)
	}
}

// What else a net.Conn has is not asked of a stream.
func (s *stream) Read([]byte) (int, error)    { return 0, net.ErrClosed }
func (s *stream) LocalAddr() net.Addr         { return nil }
func (s *stream) RemoteAddr() net.Addr        { return nil }
func (s *stream) SetDeadline(time.Time) error { return nil }

var _ net.Conn = (*stream)(nil)
