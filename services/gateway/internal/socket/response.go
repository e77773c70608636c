package socket

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// Response is an HTTP response that does not end (HTTP/1.1 or HTTP/2). Only its
// owner's WriteBy writes, one call at a time, and its status is 200.
type Response struct {
	w  http.ResponseWriter
	rc *http.ResponseController

	mu     sync.Mutex
	closed bool // guarded by mu; no write may begin
}

// Respond returns w as a socket. It lifts the server's deadlines, because the
// response lasts longer; each WriteBy has a deadline of its own instead.
func Respond(w http.ResponseWriter) *Response {
	s := &Response{w: w, rc: http.NewResponseController(w)}
	_ = s.rc.SetReadDeadline(time.Time{})  // fails only if there is no deadline
	_ = s.rc.SetWriteDeadline(time.Time{}) // likewise
	return s
}

// Write says that there is no room, so that WriteBy writes.
func (s *Response) Write([]byte) (n int, full bool, err error) { return 0, true, nil }

// WriteBy implements DeadlineWriter. After an error none of b counts as
// written: what net/http holds back may never arrive.
func (s *Response) WriteBy(b []byte, deadline time.Time) (n int, err error) {
	if err := s.setDeadline(deadline); err != nil {
		return 0, err
	}
	if n, err = s.w.Write(b); err == nil {
		err = s.rc.Flush()
	}
	if err != nil {
		return 0, err
	}
	_ = s.setDeadline(time.Time{}) // HTTP/2 resets a stream whose deadline is over even if nothing is being written
	return n, nil
}

// setDeadline fails once the socket is closed: so no write begins after Close.
func (s *Response) setDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.rc.SetWriteDeadline(t)
}

// CloseWrite does nothing: the response ends when its handler returns.
func (s *Response) CloseWrite() error { return nil }

// Finish forbids further writes. The handler may return then: the end of the body
// has so much time to be written.
func (s *Response) Finish(within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	_ = s.rc.SetWriteDeadline(time.Now().Add(within)) // fails only if there is no deadline
}

// Close cuts off a write under way.
func (s *Response) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		_ = s.rc.SetWriteDeadline(time.Unix(1, 0)) // if that fails there is nothing to cut off
	}
}
