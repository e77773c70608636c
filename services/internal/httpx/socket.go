package httpx

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// Socket is a connection that an Admission counts, whose socket can be given
// away, although TLS lies on top of it: whoever takes over a *tls.Conn finds
// it by NetConn, and may put something of its own in the place of Go's socket,
// such as one that does not block. Nobody may read or write meanwhile.
type Socket struct {
	net.Conn
	place *place // nil: nobody counts it
}

// Exchange puts another connection in the socket's place and returns the one
// that was there, which is the caller's from then on.
func (s *Socket) Exchange(nc net.Conn) (old net.Conn) {
	old, s.Conn = s.Conn, nc
	return old
}

// Close closes the socket and gives its place back.
func (s *Socket) Close() error {
	err := s.Conn.Close()
	s.place.release() // after: the descriptor is free by now
	return err
}

// SetReadDeadline keeps the deadline of a socket that is only told why it is
// refused.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.Conn.SetReadDeadline(s.place.within(t)) }

// SetDeadline is like SetReadDeadline.
func (s *Socket) SetDeadline(t time.Time) error { return s.Conn.SetDeadline(s.place.within(t)) }

// SyscallConn is the socket's own, for whoever duplicates its descriptor.
func (s *Socket) SyscallConn() (syscall.RawConn, error) {
	sc, ok := s.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}

// CloseWrite says that nothing more is coming: net/http ends so a connection
// whose client may still be sending.
func (s *Socket) CloseWrite() error {
	half, ok := s.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
