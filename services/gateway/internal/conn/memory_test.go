package conn_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/gateway/internal/conn"
)

// crowdEnv makes the test binary a crowd of clients for the address that it
// names.
const crowdEnv = "HERALD_TEST_CROWD"

// Clients of a crowd; over TLS, where a handshake costs as much as ten without,
// they are fewer.
const crowdSize, secureCrowd = 5000, 1000

// crowd opens connections, says so, and keeps them until its input ends.
func crowd(addr string) {
	addr, secure := strings.CutPrefix(addr, "wss:")
	conns := make([]net.Conn, sizeOf(secure))
	for i := range conns {
		nc, err := net.Dial("tcp", addr)
		if err == nil && secure {
			nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // the test server's own certificate
		}
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

func sizeOf(secure bool) int {
	if secure {
		return secureCrowd
	}
	return crowdSize
}

// An idle client costs little memory, and no goroutine where a poller waits
// for it. The clients live in another process: this one has only the server's
// side.
func TestIdleClient(t *testing.T) {
	for _, c := range []struct {
		form                      string
		mostBytes, mostGoroutines int
	}{{"parked", 640, 0}, {"TLS", 9 << 10, 0}, {"blocking", 8 << 10, 1}} {
		t.Run(c.form, func(t *testing.T) {
			testIdleClient(t, newForm(t, conn.Config{}, c.form), c.mostBytes, c.mostGoroutines)
		})
	}
}

func testIdleClient(t *testing.T, s *server, mostBytes, mostGoroutines int) {
	addr, size := s.http.Listener.Addr().String(), sizeOf(s.secure)
	if s.secure {
		addr = "wss:" + addr
	}
	_, _ = s.connect() // what the first client costs is not counted
	goroutines, memory := runtime.NumGoroutine(), inUse()

	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crowdEnv+"="+addr)
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
	for range size {
		<-s.conns
	}
	eventually(t, "the goroutines of the handshakes have ended", func() bool {
		return runtime.NumGoroutine()-goroutines <= mostGoroutines*size+10
	})
	// What else is under way in this process is gone after a while, what clients hold is not.
	eventually(t, fmt.Sprintf("an idle client costs at most %d bytes", mostBytes), func() bool {
		each := (inUse() - memory) / size
		t.Logf("%d bytes of heap and stack for each of %d idle clients", each, size)
		return each <= mostBytes
	})
	_ = stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the clients: %v", err)
	}
	for range size {
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
