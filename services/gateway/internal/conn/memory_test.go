package conn

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
)

// crowdEnv makes the test binary a crowd of clients for the address that it
// names.
const crowdEnv = "HERALD_TEST_CROWD"

const crowdSize = 5000

// crowd opens connections, says so, and keeps them until its input ends.
func crowd(addr string) {
	conns := make([]net.Conn, crowdSize)
	for i := range conns {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			_, err = nc.Write([]byte(handshake))
		}
		if err == nil {
			_, err = http.ReadResponse(bufio.NewReader(nc), nil)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		conns[i] = nc
	}
	fmt.Println("here")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
}

// An idle client costs little memory, and no goroutine where a poller waits
// for it. The clients live in another process: this one has only the server's
// side.
func TestIdleClient(t *testing.T) {
	t.Run("parked", func(t *testing.T) { testIdleClient(t, Config{}, 1<<10, 0) })
	t.Run("blocking", func(t *testing.T) { testIdleClient(t, Config{Blocking: true}, 8<<10, 1) })
}

func testIdleClient(t *testing.T, cfg Config, mostBytes, mostGoroutines int) {
	s := newServer(t, cfg, "tcp", false)
	_, _ = s.connect() // what the first client costs is not counted
	goroutines, memory := runtime.NumGoroutine(), inUse()

	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crowdEnv+"="+s.http.Listener.Addr().String())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "here\n" {
		t.Fatalf("the clients say %q, %v", line, err)
	}
	for range crowdSize {
		<-s.conns
	}
	eventually(t, "the goroutines of the handshakes have ended", func() bool {
		return runtime.NumGoroutine()-goroutines <= mostGoroutines*crowdSize+10
	})
	each := (inUse() - memory) / crowdSize
	t.Logf("%d bytes of heap and stack for each of %d idle clients", each, crowdSize)
	if each > mostBytes {
		t.Errorf("an idle client costs %d bytes, want at most %d", each, mostBytes)
	}
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the clients: %v", err)
	}
	for range crowdSize {
		s.ended()
	}
}

// inUse is what heap and stacks hold after a garbage collection.
func inUse() int {
	debug.FreeOSMemory() // collects, and halves stacks that are little used
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
