//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child of this one. It dies with its parent.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu   sync.Mutex
	said []byte // guarded by mu; the last keepSaid bytes of its standard error
}

const keepSaid = 8 << 10

// startProcess runs a binary with these arguments and variables, and nothing of this
// process's environment that begins with HERALD_. stdin and stdout may be nil.
func startProcess(name string, stdin io.Reader, stdout io.Writer, env []string, binary string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HERALD_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process; kill waits for it
		_ = p.cmd.Wait() // what it says counts, not how it ends
		close(p.done)
	}()
	return p, nil
}

// Write takes what the process says on standard error.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.said = append(p.said, b...); len(p.said) > keepSaid {
		p.said = append(p.said[:0], p.said[len(p.said)-keepSaid:]...)
	}
	return len(b), nil
}

// tail is the last that the process said, for an error about it.
func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(bytes.TrimSpace(p.said))
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the process and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// await asks once every few milliseconds until ready says yes.
func (p *process) await(ctx context.Context, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for !ready() {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended early: %s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %s", p.name, ctx.Err(), p.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// freePort is one of 127.0.0.1 that nobody listens on now, below those that
// Linux gives to outgoing connections (32768 and up).
func freePort() (string, error) {
	for range 1000 {
		port := strconv.Itoa(20000 + rand.N(12000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			return port, l.Close()
		}
	}
	return "", fmt.Errorf("no port of 127.0.0.1 is free")
}

// build compiles a command that go.mod names as a tool, and returns its path.
func build(ctx context.Context, dir, name, importPath string) (string, error) {
	binary := filepath.Join(dir, name)
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, importPath).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", importPath, err, out)
	}
	return binary, nil
}
