//go:build !unix

package socket

import (
	"net"
	"syscall"
)

// plain exists on Unix only: elsewhere every write is done by WriteBy, in a
// goroutine that exists as long as there is something to write.
type plain struct {
	blocking
	raw syscall.RawConn
}

func nonBlocking(net.Conn) syscall.RawConn { return nil }
