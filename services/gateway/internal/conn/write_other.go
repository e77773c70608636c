//go:build !unix

package conn

import (
	"net"
	"syscall"
)

// nonBlocking: without it every write is done by a goroutine that exists as
// long as there is something to write.
func nonBlocking(net.Conn) syscall.RawConn { return nil }

func writeNow(syscall.RawConn, []byte) (int, error) { return 0, nil }
