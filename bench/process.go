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
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

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

// tick is the unit of /proc: USER_HZ, 100 on every Linux that Go runs on.
const tick = 0.01

// cpuOf reads the time that a running process has spent so far. The sum is the scheduler's, to the nanosecond. How much
// of it was user time the kernel tells in ticks of 10 ms, and on most machines estimates by who was running at its
// timer's interrupts: that share is rough.
func cpuOf(pid int) (cpu, error) {
	b, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The clock of a process: clock_getcpuclockid(3), of the kind CPUCLOCK_SCHED.
	var sum unix.Timespec
	err2 := unix.ClockGettime(int32(^pid)<<3|2, &sum)
	if err := errors.Join(err1, err2); err != nil {
		return cpu{}, fmt.Errorf("cpu time of a process: %w", err)
	}
	// Fields are counted after the name, which may contain anything, in parentheses.
	user, err := strconv.ParseFloat(strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))[11], 64)
	return cpu{float64(sum.Nano()) / 1e9, user * tick}, err
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
	pages, err := field(fmt.Sprintf("/proc/%d/statm", pid), "", 1)
	return float64(pages * os.Getpagesize()), err
}

// usage is CPU time up to a moment, in seconds.
type usage struct {
	when      time.Time
	all, ours float64 // of the machine; of this process and of its children that have ended
}

func usageNow() usage {
	u := usage{when: time.Now()}
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // not idle, not waiting for a disk
		ticks, _ := field("/proc/stat", "cpu ", i) // each Linux has it
		u.all += float64(ticks) * tick
	}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		_ = unix.Getrusage(who, &r) // of this process it cannot fail
		u.ours += float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
	}
	return u
}

// foreignSince is the part of the machine that other programs used.
func (u usage) foreignSince(begin usage) float64 {
	others := u.all - begin.all - (u.ours - begin.ours)
	return max(0, others/u.when.Sub(begin.when).Seconds()/float64(runtime.NumCPU()))
}

// field reads the n-th word, a number, of the first line that begins so in a file of the kernel's.
func field(path, begin string, n int) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("this machine: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.HasPrefix(line, begin) && len(f) > n {
			return strconv.Atoi(f[n])
		}
	}
	return 0, fmt.Errorf("this machine: %s has no %q", path, begin)
}

var modelName = regexp.MustCompile(`model name\s*: (.*)`)

// machine describes what the figures were measured on.
func machine() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // without it the description is shorter
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	model := append(modelName.FindStringSubmatch(string(info)), "", "an unknown kind")[1]
	return fmt.Sprintf("%d processors of %s, Linux %s, %s",
		runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), runtime.Version())
}
