package natstest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports below those that Linux gives to outgoing connections (32768 and up):
// else one of thousands of clients could sit on the port of a server that is
// being restarted.
const firstPort, lastPort = 20000, 32000

// FreePort is a port of 127.0.0.1 that nobody listens on now, and that no other call gets until the test has ended,
// in whichever process: go test runs the tests of several packages at once. The call that has the port holds the UDP
// port of the same number, which nothing here needs.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(firstPort + rand.N(lastPort-firstPort))
		mine, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = l.Close()
			t.Cleanup(func() { _ = mine.Close() })
			return port
		}
		_ = mine.Close()
	}
	t.Fatal("no port of 127.0.0.1 is free")
	return ""
}
