package socket

import (
	"net"
	"time"
)

// Wait returns nc as a socket that goroutines wait for.
func Wait(nc net.Conn) Blocking {
	if raw := nonBlocking(nc); raw != nil {
		return plain{blocking{nc}, raw}
	}
	return blocking{nc}
}

// blocking is a socket that cannot be written to without blocking, such as TLS.
type blocking struct{ nc net.Conn }

// Write says that there is no room, so that WriteBy writes.
func (s blocking) Write([]byte) (n int, full bool, err error) { return 0, true, nil }

func (s blocking) Read(b []byte) (int, error) { return s.nc.Read(b) }

func (s blocking) WriteBy(b []byte, deadline time.Time) (n int, err error) {
	if err := s.nc.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	n, err = s.nc.Write(b)
	if err == nil {
		err = s.nc.SetWriteDeadline(time.Time{}) // else it would fail the next Write of plain
	}
	return n, err
}

func (s blocking) CloseWrite() error {
	if half, ok := s.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes, of TLS, the socket beneath: tls.Conn.Close waits up to 5 s until
// its alert is written.
func (s blocking) Close() {
	nc := s.nc
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	_ = nc.Close() // nothing can be done about a socket that does not close
}
