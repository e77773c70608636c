//go:build unix

package conn

import (
	"net"
	"syscall"
)

// nonBlocking returns the handle for writes that never block, or nil where
// the connection is not a plain socket but TLS.
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

// writeNow writes as much of b as the socket takes at once. n < len(b)
// without an error means that the socket is full.
func writeNow(raw syscall.RawConn, b []byte) (n int, err error) {
	if werr := raw.Write(func(fd uintptr) bool {
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
		return true // never wait for the poller: that is the drainer's part
	}); werr != nil {
		return n, werr
	}
	if err == syscall.EAGAIN {
		err = nil
	}
	return n, err
}
