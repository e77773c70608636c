// Package proctest gives a test real processes of this project's commands:
// built once, started, killed with signal 9 or asked to stop, and gone when
// the test is. What they said stands in the test's log if it failed.
package proctest

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
)

// Process is a real one, started for a test and ended with it. Its methods
// are safe for concurrent use; those that may fail the test are for the
// test's own goroutine.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and all that it said was read

	mu  sync.Mutex
	out []byte // guarded by mu; both streams, the last maxOutput bytes
}

// maxOutput bounds what is kept of a process that talks for hours.
const maxOutput = 4 << 20

// Start runs a binary, by its path, in the folder dir with these arguments
// and variables, and nothing else of this process's environment that begins
// with HERALD_.
func Start(t testing.TB, binary, dir string, env []string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, name: filepath.Base(binary), cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HERALD_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	_ = w.Close() // the child has its own
	if err != nil {
		_ = r.Close()
		t.Fatalf("start %s: %v", p.name, err)
	}
	go p.listen(r) // ends with the process; Kill and Stop wait for it through done
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s said:\n%s", p.name, strings.Join(args, " "), Tail(p.Output(), 6000))
		}
	})
	return p
}

// listen keeps what the process says, in whole lines. What it writes at once, up to 64 KiB, comes at once: who
// waits for the first line of a greeting has the others, too.
func (p *Process) listen(r *os.File) {
	defer close(p.done)
	part := make([]byte, 64<<10)
	for held := []byte(nil); ; { // held is the beginning of a line
		n, err := r.Read(part)
		held = append(held, part[:n]...)
		end := bytes.LastIndexByte(held, '\n') + 1
		if err != nil {
			end = len(held)
		}
		p.mu.Lock()
		if p.out = append(p.out, held[:end]...); len(p.out) > 2*maxOutput {
			p.out = append(p.out[:0], p.out[len(p.out)-maxOutput:]...)
		}
		p.mu.Unlock()
		held = append(held[:0], held[end:]...)
		if err != nil {
			break
		}
	}
	_ = r.Close()
	_ = p.cmd.Wait() // the tests ask for the exit code themselves
}

// Pid is the process's number, also after its end.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is what the process said so far on both streams.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.out)
}

// Kill is kill -9. It returns when the process is gone; one that has ended
// already is left alone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Stop asks the process to end (SIGTERM) and fails the test if it does not
// within the time, and a minute at least, or ends with an error.
func (p *Process) Stop(within time.Duration) {
	p.t.Helper()
	within = max(within, time.Minute) // as natstest.Eventually does, and for its reason
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("stop %s: %v", p.name, err)
	}
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			p.t.Errorf("%s ended with code %d:\n%s", p.name, code, Tail(p.Output(), 3000))
		}
	case <-time.After(within):
		p.t.Errorf("%s did not stop within %s", p.name, within)
		p.Kill()
	}
}

// WaitFor waits until the process has said something.
func (p *Process) WaitFor(text string) {
	p.t.Helper()
	p.wait(text, func(said string) bool { return strings.Contains(said, text) })
}

// Find waits until what the process has said matches a regular expression, and returns the match and its groups.
func (p *Process) Find(pattern string) (match []string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	p.wait(pattern, func(said string) bool {
		match = re.FindStringSubmatch(said)
		return match != nil
	})
	return match
}

func (p *Process) wait(what string, is func(said string) bool) {
	p.t.Helper()
	natstest.Eventually(p.t, startTimeout, p.name+" says "+what, func() bool {
		ended := false
		select {
		case <-p.done:
			ended = true
		default:
		}
		said := p.Output()
		if is(said) {
			return true
		}
		if ended {
			p.t.Fatalf("%s ended early:\n%s", p.name, Tail(said, 3000))
		}
		return false
	})
}

// startTimeout is for a process that starts beside everything else that a
// busy machine does.
const startTimeout = 30 * time.Second

// Tail is the last n bytes of s, or all of it.
func Tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// Ready waits until the service at base says so on /readyz.
func Ready(t testing.TB, base string) {
	t.Helper()
	natstest.Eventually(t, startTimeout, base+" is ready", func() bool { return IsReady(base) })
}

// IsReady asks the service at base once.
func IsReady(base string) bool {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get(base + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // only the status is of interest
	return resp.StatusCode == http.StatusOK
}

// FreePort is natstest.FreePort.
func FreePort(t testing.TB) string {
	t.Helper()
	return natstest.FreePort(t)
}
