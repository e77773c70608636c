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
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// process is a child of this one. It dies with its parent.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// command prepares a process with this environment and without the variables of the parent that begin with HERALD_.
func command(name string, env []string, binary string, args ...string) *process {
	p := &process{name: name, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	inherited := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HERALD_") })
	p.cmd.Env = append(inherited, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p
}

// start runs the process; its standard error goes to a file of the run. kill ends it at the latest.
func (b *bench) start(p *process) error {
	said, err := os.CreateTemp(b.dir, p.name+"-*.log")
	if err == nil {
		p.cmd.Stderr = said
		err = errors.Join(p.cmd.Start(), said.Close())
	}
	if err != nil {
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

// cpu is time that a process spent, in seconds: all of it, and that of its own code, without the kernel's on its
// behalf.
type cpu struct{ sum, user float64 }

// cpuOf reads the time that a running process has spent so far. The sum is the scheduler's, to the nanosecond. How much
// of it was user time the kernel tells in ticks of 10 ms, and on most machines estimates by who was running at its
// timer's interrupts: that share is rough.
func cpuOf(pid int) (cpu, error) {
	const tick = 0.01 // the unit of /proc: USER_HZ is 100 on every Linux that Go runs on
	p, err1 := procfs.NewProc(pid)
	stat, err2 := p.Stat()
	// The clock of a process: clock_getcpuclockid(3), of the kind CPUCLOCK_SCHED.
	var sum unix.Timespec
	err3 := unix.ClockGettime(int32(^pid)<<3|2, &sum)
	return cpu{float64(sum.Nano()) / 1e9, float64(stat.UTime) * tick}, errors.Join(err1, err2, err3)
}

// spent is CPU time of processes, and the wall time in which it was, in seconds.
type spent struct {
	cpu        // of all
	each []cpu // of each
	took float64
}

// cost is what these processes spend during do.
func cost(do func() error, of ...*process) (used spent, err error) {
	read := func() (each []cpu) {
		for _, p := range of {
			c, e := cpuOf(p.pid())
			each, err = append(each, c), errors.Join(err, e)
		}
		return each
	}
	before, begin := read(), time.Now()
	err = errors.Join(err, do())
	used.took, used.each = time.Since(begin).Seconds(), read()
	for i, c := range before {
		used.each[i] = cpu{used.each[i].sum - c.sum, used.each[i].user - c.user}
		used.cpu = cpu{used.sum + used.each[i].sum, used.user + used.each[i].user}
	}
	return used, err
}

// rssOf is the resident memory of a process in bytes.
func rssOf(pid int) (float64, error) {
	p, err1 := procfs.NewProc(pid)
	stat, err2 := p.Stat()
	return float64(stat.ResidentMemory()), errors.Join(err1, err2)
}

// foreign is the part of the machine that programs which are not of this run used during do.
func foreign(do func()) float64 {
	used := func() (others float64) { // seconds of CPU up to now, less those of this process and its ended children
		fs, _ := procfs.NewDefaultFS() // each Linux has it
		stat, _ := fs.Stat()
		c := stat.CPUTotal
		others = c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal // not idle, not waiting for a disk
		for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
			var r unix.Rusage
			_ = unix.Getrusage(who, &r) // of this process it cannot fail
			others -= float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
		}
		return others
	}
	before, begin := used(), time.Now()
	do()
	return max(0, (used()-before)/time.Since(begin).Seconds()/float64(runtime.NumCPU()))
}

// machine describes what the figures were measured on.
func machine() string {
	model, kernel := "an unknown kind", "?"
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if cpus, err := fs.CPUInfo(); err == nil && cpus[0].ModelName != "" {
			model = cpus[0].ModelName
		}
		if release, err := fs.SysctlStrings("kernel.osrelease"); err == nil {
			kernel = release[0]
		}
	}
	return fmt.Sprintf("%d processors of %s, Linux %s, %s", runtime.NumCPU(), model, kernel, runtime.Version())
}
