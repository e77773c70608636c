//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
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

// command prepares a process with this environment and without the variables of
// the parent that begin with HERALD_.
func command(name string, env []string, binary string, args ...string) *process {
	p := &process{name: name, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HERALD_") })
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = time.Second
	return p
}

// role prepares a process of this binary.
func (b *bench) role(name string, job any) *process {
	j, _ := json.Marshal(job) // jobs are structs of plain values
	return command(name, nil, b.self, name, string(j))
}

// start runs the process. close kills it at the latest.
func (b *bench) start(p *process) error {
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	b.running = append(b.running, p)
	go func() { // ends with the process; kill waits for it
		_ = p.cmd.Wait() // its standard error says what went wrong
		close(p.done)
	}()
	return nil
}

// kill ends processes that start has started, and returns when they are gone.
func (b *bench) kill(list ...*process) {
	for _, p := range list {
		_ = p.cmd.Process.Kill() // it may have ended
	}
	for _, p := range list {
		<-p.done
	}
	b.running = slices.DeleteFunc(b.running, func(p *process) bool { return slices.Contains(list, p) })
}

// Write keeps what the process writes to standard error.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, b...)
	p.said = p.said[max(0, len(p.said)-keepSaid):]
	return len(b), nil
}

// tail is the last that the process wrote to standard error, for an error about it.
func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(bytes.TrimSpace(p.said))
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// await calls ready every few milliseconds until it returns true.
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

// freeAddresses are n of 127.0.0.1 where nobody listens now, with ports below those that
// Linux gives to outgoing connections (32768 and up).
func freeAddresses(n int) (list []string, err error) {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(12000))
		l, err := net.Listen("tcp", addr)
		if err != nil || slices.Contains(list, addr) {
			continue
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		if list = append(list, addr); len(list) == n {
			return list, nil
		}
	}
	return nil, fmt.Errorf("fewer than %d ports of 127.0.0.1 are free", n)
}

// pause returns after d, or with the reason why not.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
