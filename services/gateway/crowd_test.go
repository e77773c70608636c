package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"unsafe"

	"github.com/herald-push/herald/services/gateway/internal/wstest"
	"github.com/herald-push/herald/services/internal/natstest"
)

// crowdEnv makes the test binary a crowd of clients: "ADDRESS NUMBER PATH". They
// live in a process of their own, so that this one's figures are the server's.
const crowdEnv = "HERALD_TEST_CROWD"

// crowd connects, says "here", says "done" when each client has read the
// message that is the end, and leaves when its input ends.
func crowd(s string) {
	var addr, path string
	var n int
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	_, err := fmt.Sscan(s, &addr, &n, &path)
	fail(err)
	var reading sync.WaitGroup
	for range n {
		nc, err := net.Dial("tcp", addr)
		fail(err)
		_, err = io.WriteString(nc, "GET "+path+" HTTP/1.1\r\nHost: "+addr+
			"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		fail(err)
		b := make([]byte, 2048)
		await := func(word string) {
			for got := 0; !bytes.Contains(b[:got], []byte(word)); {
				k, err := nc.Read(b[got:])
				fail(err)
				got += k
			}
		}
		switch path {
		case "/ws":
			await("welcome")
		case socketPath:
			await("pingInterval")
			_, err = nc.Write(wstest.Masked(0x81, []byte(`40{"details":true}`)))
			fail(err)
			await("herald:place")
		default: // of the Pusher protocol
			await("connection_established")
			_, err = nc.Write(wstest.Masked(0x81,
				[]byte(`{"event":"pusher:subscribe","data":{"auth":"","channel":"orders"}}`)))
			fail(err)
			await("subscription_succeeded")
		}
		reading.Go(func() {
			b := make([]byte, 4096)
			for kept := 0; ; {
				k, err := nc.Read(b[kept:])
				if err != nil || bytes.Contains(b[:kept+k], []byte(`"the end"`)) {
					return
				}
				tail := b[max(0, kept+k-16) : kept+k] // the words may be cut in two
				kept = copy(b, tail)
			}
		})
	}
	fmt.Println("here")
	go func() { // ends with the process
		reading.Wait()
		fmt.Println("done")
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// socketPath is where Socket.IO clients of the crowd connect, over WebSocket alone.
const socketPath = "/socket.io/?EIO=4&transport=websocket"

// bringTo starts a crowd of n clients of this path. read waits for its next word.
func (g *gate) bringTo(path string, n int) (read func(want string)) {
	g.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", crowdEnv, g.Addr(), n, path))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(stdout)
	read = func(want string) {
		g.t.Helper()
		if line, err := lines.ReadString('\n'); line != want+"\n" {
			g.t.Fatalf("the clients say %q, %v", line, err)
		}
	}
	read("here")
	return read
}

// An idle client with one subscription costs little memory, and where a poller
// waits for it no goroutine.
func TestIdleClient(t *testing.T) {
	for name, path := range map[string]string{"native": "/ws", "Socket.IO": socketPath} {
		t.Run(name, func(t *testing.T) { idleClient(t, path) })
	}
}

// A client's one piece of memory is of a size that Go's allocator has: one byte more would cost 64.
func TestSizeOfASession(t *testing.T) {
	if size := unsafe.Sizeof(session{}); runtime.GOOS == "linux" && size > 576 {
		t.Errorf("%d bytes, want at most 576", size)
	}
}

func idleClient(t *testing.T, path string) {
	const clients = 2500
	mostBytes, mostGoroutines := 1200, 50
	if runtime.GOOS != "linux" {
		mostBytes, mostGoroutines = 12<<10, clients
	}
	b := newBroker(t)
	g := b.socketio(func(c *Config) { c.MaxPerIP = 0 })
	g.connect("")
	goroutines, before := runtime.NumGoroutine(), inUse()
	g.bringTo(path, clients)
	natstest.Eventually(t, patience, "the goroutines of the handshakes have ended",
		func() bool { return runtime.NumGoroutine()-goroutines <= mostGoroutines })
	g.log.Forget()
	costs(t, before, clients, mostBytes)
}

// costs waits until heap and stacks hold at most so many bytes more than before for each of n clients: what the
// handshakes needed, and what else is under way in this process, is gone after a while, what clients hold is not.
func costs(t *testing.T, before, n, most int) {
	t.Helper()
	each := 0
	natstest.Eventually(t, patience, fmt.Sprintf("an idle client costs at most %d bytes", most), func() bool {
		each = (inUse() - before) / n
		t.Logf("%d bytes of heap and stack for each of %d clients", each, n)
		return each <= most
	})
}

// inUse is what heap and stacks hold after a garbage collection.
func inUse() int {
	debug.FreeOSMemory() // collects, and halves stacks that are little used
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
