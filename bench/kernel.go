//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kernel is the memory that the kernel holds for everybody, in bytes. Sockets,
// their files and their entries in an epoll are in slabs; what waits in them is not.
type kernel struct {
	slab    float64           // all slabs
	pinned  float64           // those of it that cannot be reclaimed; files and their names can
	sockets float64           // how many TCP sockets there are
	buffers float64           // charged to them for what waits in them
	caches  map[string]kcache // by name; nil unless root asks
}

// kcache is one kind of object.
type kcache struct{ objects, size float64 }

// readKernel needs no privilege, except for the caches.
func readKernel() (k kernel, err error) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return k, fmt.Errorf("kernel memory: %w", err)
	}
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		for name, into := range map[string]*float64{"Slab:": &k.slab, "SUnreclaim:": &k.pinned} {
			if f[0] != name {
				continue
			}
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				return k, fmt.Errorf("kernel memory: %w", err)
			}
			*into = kb * 1024
		}
	}
	sockets, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return k, fmt.Errorf("kernel memory: %w", err)
	}
	for line := range strings.Lines(string(sockets)) {
		f := strings.Fields(line)
		if f[0] != "TCP:" {
			continue
		}
		for name, into := range map[string]*float64{"alloc": &k.sockets, "mem": &k.buffers} {
			i := slices.Index(f, name)
			if i < 0 || i+1 == len(f) {
				return k, fmt.Errorf("kernel memory: /proc/net/sockstat says no %q of TCP", name)
			}
			if *into, err = strconv.ParseFloat(f[i+1], 64); err != nil {
				return k, fmt.Errorf("kernel memory: %w", err)
			}
		}
		k.buffers *= float64(os.Getpagesize()) // it counts pages
	}
	if f, err := os.Open("/proc/slabinfo"); err == nil {
		defer func() { _ = f.Close() }()
		k.caches = parseSlabinfo(f)
	}
	return k, nil
}

// parseSlabinfo reads version 2.1 of that file: name, active objects, all
// objects, size of one, and more.
func parseSlabinfo(r io.Reader) map[string]kcache {
	caches := map[string]kcache{}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 4 {
			continue
		}
		objects, err1 := strconv.ParseFloat(f[2], 64)
		size, err2 := strconv.ParseFloat(f[3], 64)
		if errors.Join(err1, err2) == nil {
			caches[f[0]] = kcache{objects, size}
		}
	}
	return caches
}

// minus is what was added since before.
func (k kernel) minus(before kernel) kernel {
	d := kernel{slab: k.slab - before.slab, pinned: k.pinned - before.pinned, sockets: k.sockets - before.sockets, buffers: k.buffers - before.buffers}
	if k.caches != nil && before.caches != nil {
		d.caches = map[string]kcache{}
		for name, c := range k.caches {
			d.caches[name] = kcache{c.objects - before.caches[name].objects, c.size}
		}
	}
	return d
}

// ofSockets are the kinds of objects that a TCP connection has and little else. The
// kernel may keep a kind under the name of another one of the same size; then
// it is not seen.
var ofSockets = []string{"TCP", "sock_inode_cache", "filp", "eventpoll_epi", "eventpoll_pwq", "tcp_bind_bucket", "tcp_bind2_bucket", "nf_conntrack"}

// kinds says how many of these there are for each of n: "2.0 TCP of 2368 bytes, …".
// Empty unless root asks.
func (k kernel) kinds(n int) string {
	var list []string
	for _, name := range ofSockets {
		if c := k.caches[name]; c.objects >= float64(n)/2 {
			list = append(list, fmt.Sprintf("%.1f `%s` of %.0f bytes", c.objects/float64(n), name, c.size))
		}
	}
	return strings.Join(list, ", ")
}

// lonely is the role of a process that holds TCP sockets without a peer: bound to
// an address and a port, and in an epoll, as a client's end is. It says when they are
// there, and holds them until its input ends.
func lonely(_ context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	f := flag.NewFlagSet("lonely", flag.ContinueOnError)
	n := f.Int("n", 1, "sockets")
	if err := f.Parse(args); err != nil {
		return err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	for i := range *n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("socket %d: %w", i, err)
		}
		if err := errors.Join(
			unix.Bind(fd, &unix.SockaddrInet4{Addr: source(i)}),
			unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | edge, Fd: int32(fd)})); err != nil {
			return fmt.Errorf("socket %d: %w", i, err)
		}
	}
	if _, err := io.WriteString(stdout, "there\n"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// oneEnd measures what the kernel holds for one end of an idle connection, by n
// sockets that have no other.
func (b *bench) oneEnd(n int) (k kernel, err error) {
	in, hold, err1 := os.Pipe()
	said, out, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		return k, fmt.Errorf("start sockets: %w", err)
	}
	defer func() { _, _ = hold.Close(), said.Close() }()
	before, err := readKernel()
	if err != nil {
		return k, err
	}
	p, err := startProcess("lonely", in, out, nil, b.self, "lonely", fmt.Sprintf("-n=%d", n))
	_, _ = in.Close(), out.Close() // the child has its own
	if err != nil {
		return k, err
	}
	defer p.kill()
	if _, err := bufio.NewReader(said).ReadString('\n'); err != nil {
		return k, fmt.Errorf("sockets without a peer: %w: %s", err, p.tail())
	}
	after, err := readKernel()
	return after.minus(before), err
}
