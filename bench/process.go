//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// process is a child of this one. It dies with its parent.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// command prepares a process with this environment and without the variables of
// the parent that begin with HERALD_.
func command(name string, env []string, binary string, args ...string) *process {
	p := &process{name: name, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HERALD_") })
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p
}

// start runs the process; its standard error goes to a file of the run. close kills it at the latest.
func (b *bench) start(p *process) error {
	said, err := os.CreateTemp(b.dir, p.name+"-*.log")
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd.Stderr = said
	if err := errors.Join(p.cmd.Start(), said.Close()); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	b.running = append(b.running, p)
	go func() { // ends with the process; kill waits for it
		_ = p.cmd.Wait() // its standard error says what went wrong
		close(p.done)
	}()
	return nil
}

// kill ends all processes that start has started, and returns when they are gone.
func (b *bench) kill() {
	for _, p := range b.running {
		_ = p.cmd.Process.Kill() // it may have ended
	}
	for _, p := range b.running {
		<-p.done
	}
	b.running = nil
}

// tail is the last that the process wrote to standard error, for an error about it.
func (p *process) tail() string {
	said, _ := os.ReadFile(p.cmd.Stderr.(*os.File).Name()) // without it the error is shorter
	return string(bytes.TrimSpace(said[max(0, len(said)-8<<10):]))
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// await calls ready every few milliseconds until it returns nil.
func (p *process) await(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for err := ready(); err != nil; err = ready() {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended early: %s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %s", p.name, err, p.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// freeAddresses are n of 127.0.0.1 where nobody listens now.
func freeAddresses(n int) (list []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // nobody has used it
		list = append(list, l.Addr().String())
	}
	return list, nil
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
