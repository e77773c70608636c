package conn

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
)

// Stream makes c, a zero Conn, the connection of an HTTP response that does not
// end (HTTP/1.1 or HTTP/2), and calls the client's Arrived and Ended in this
// goroutine, the handler's. It
// returns when nobody writes to w any more. ErrClosed means that the set
// drains, and that nothing was written. The caller has set the headers; the
// status is 200. A client that vanished is noticed by a write that fails or a
// queue that fills, since nothing comes back.
func (s *Set) Stream(c *Conn, w http.ResponseWriter, r *http.Request, remote netip.Addr, id string, format *Format, client Client) error {
	if !s.reserve() {
		return ErrClosed
	}
	st := &stream{w: w, rc: http.NewResponseController(w), bye: make(chan struct{})}
	// The response lasts longer than the server's timeouts allow; each write
	// has a deadline of its own instead.
	_ = st.rc.SetReadDeadline(time.Time{})  // fails only where there is no deadline
	_ = st.rc.SetWriteDeadline(time.Time{}) // likewise
	s.begin(c, id, remote, format)
	c.wire, c.oneWay = st, true
	if s.add(c) {
		c.Close(proto.CloseGoingAway) // Drain did not see it
	}
	c.client = client
	c.client.Arrived()
	select {
	case <-r.Context().Done():
	case <-st.bye:
		if c.flushed() {
			st.finish()
		}
	}
	c.stop()
	_ = st.rc.SetWriteDeadline(time.Now().Add(s.closeWait)) // for the end of the body
	c.finish()
	return nil
}

// stop closes the connection and waits until nobody writes to it.
func (c *Conn) stop() {
	for {
		c.mu.Lock()
		c.kill()
		if !c.draining {
			c.mu.Unlock()
			return
		}
		room := c.waitForRoom()
		c.mu.Unlock()
		<-room
	}
}

// stream is an HTTP response as the socket of a Conn. Only its drain goroutine
// writes.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	bye chan struct{} // closed when the goodbye is queued, or the stream closed

	mu     sync.Mutex
	closed bool // guarded by mu; no write may begin
	left   bool // guarded by mu; bye is closed
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

// SetWriteDeadline comes before each write: so none begins after close.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.rc.SetWriteDeadline(t)
}

// leaving: nobody answers a goodbye over a stream, so that Stream ends it
// when it is out.
func (s *stream) leaving() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave()
}

func (s *stream) leave() { // mu is held
	if !s.left {
		s.left = true
		close(s.bye)
	}
}

// finish forbids further writes; the response ends well.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *stream) closeWrite() error { return nil }

// close cuts off a write under way.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave()
	if !s.closed {
		s.closed = true
		_ = s.rc.SetWriteDeadline(time.Unix(1, 0)) // where that fails there is nothing to cut off
	}
}
