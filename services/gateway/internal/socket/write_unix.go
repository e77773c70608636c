//go:build unix

package socket

import (
	"net"
	"syscall"
)

// plain is a blocking socket that can be written to without blocking, too.
type plain struct {
	blocking
	raw syscall.RawConn
}

// nonBlocking returns the handle for writes that never block; nil if the connection
// is not a plain socket.
func nonBlocking(nc net.Conn) syscall.RawConn {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

func (s plain) Write(b []byte) (n int, full bool, err error) {
	if werr := s.raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			var k int
			k, err = syscall.Write(int(fd), b[n:])
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				break
			}
			n += k
		}
		return true // do not wait for room: WriteBy does
	}); werr != nil {
		return n, false, werr
	}
	if err == syscall.EAGAIN {
		err = nil
	}
	return n, err == nil && n < len(b), err
}
