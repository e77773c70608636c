package conn

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller waits for many sockets in one goroutine, so that an idle client
// needs neither a goroutine nor a buffer. Its sockets are taken out of Go's
// own poller and registered once, edge-triggered, with an epoll of their own;
// that epoll's descriptor in turn waits in Go's poller, so that no thread is
// blocked.
type poller struct {
	file *os.File // the epoll
	raw  syscall.RawConn

	mu    sync.Mutex
	conns map[int32]*Conn // guarded by mu; by descriptor
	gen   int32           // guarded by mu; of the last that was added

	scratch []byte // owned by run
}

const (
	// maxEvents are taken from the kernel at a time.
	maxEvents = 256
	// readsAtOnce bounds what one busy client gets before the others' turn.
	readsAtOnce = 16
	// notSentLowat is how much the kernel takes for a client beyond what is on
	// its way: without it a sleeping phone costs up to 4 MiB of its memory.
	notSentLowat = 16 << 10
)

// newPollers makes n of them, or none where the system allows none.
func newPollers(n int) (all []*poller, err error) {
	for range n {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err == nil {
			err = unix.SetNonblock(fd, true)
		}
		if err != nil {
			return nil, fmt.Errorf("make an epoll: %w", err)
		}
		p := &poller{file: os.NewFile(uintptr(fd), "epoll"), conns: map[int32]*Conn{}, scratch: make([]byte, coalesce)}
		if p.raw, err = p.file.SyscallConn(); err != nil {
			return nil, fmt.Errorf("wait for an epoll: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// run serves until ctx ends. Connections that are left then are deaf.
func (p *poller) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { _ = p.file.Close() })() // ends the wait below
	events := make([]unix.EpollEvent, maxEvents)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			k, err := unix.EpollWait(int(fd), events, 0)
			n = max(k, 0)
			return err == nil && n > 0
		})
		if err != nil {
			return
		}
		for i := range events[:n] {
			p.event(&events[i])
		}
	}
}

func (p *poller) event(e *unix.EpollEvent) {
	p.mu.Lock()
	c := p.conns[e.Fd]
	p.mu.Unlock()
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.wire.(*descriptor)
	if c.dead || d.gen != e.Pad { // the descriptor is another client's by now
		return
	}
	if e.Events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 && c.draining {
		c.draining = false
		if c.flush(); !c.draining {
			c.disarm()
		}
		c.settle()
	}
	if e.Events&^unix.EPOLLOUT != 0 && !c.dead && !c.paused {
		c.readAll(p.scratch)
	}
}

// watch begins to wait for a connection. What came before is reported, too.
func (p *poller) watch(c *Conn) {
	c.mu.Lock() // the poller must see all of c
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	d := c.wire.(*descriptor)
	p.mu.Lock()
	p.gen++
	d.gen = p.gen
	p.conns[d.fd] = c
	p.mu.Unlock()
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: d.fd, Pad: d.gen}
	var err error
	if cerr := p.raw.Control(func(fd uintptr) { err = unix.EpollCtl(int(fd), unix.EPOLL_CTL_ADD, int(d.fd), &e) }); cerr != nil || err != nil {
		c.kill() // no more watches are allowed, or the poller has ended
	}
}

// readable goes on with a connection whose reading was paused. c.mu is held.
func (p *poller) readable(c *Conn) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	c.readAll((*buf)[:cap(*buf)])
}

// readAll reads until there is nothing more, or too much.
func (c *Conn) readAll(buf []byte) {
	d := c.wire.(*descriptor)
	for range readsAtOnce {
		if c.waiting >= maxInbox {
			break
		}
		n, err := unix.Read(int(d.fd), buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil || n == 0:
			c.hungUp()
			return
		}
		c.received(buf[:n])
		if c.dead {
			return
		}
	}
	c.paused = true
	c.busy.Store(true)
	if !c.working {
		c.working = true
		go c.work() // counted by reserve; reads on when the client has taken what there is
	}
}

// hungUp: nothing more comes from the client. What is still to be written is.
func (c *Conn) hungUp() {
	c.deaf, c.over = true, true
	if !c.closing && !c.parting {
		c.kill()
	}
	c.settle()
}

// descriptor is a socket that belongs to nobody but its Conn.
type descriptor struct {
	poller *poller
	fd     int32
	gen    int32 // of this use of the number; guarded by the Conn's mu
}

// adopt takes a plain socket out of Go's poller. nil: it is another kind of
// connection, and still the caller's; else nc is closed.
func (p *poller) adopt(nc net.Conn) *descriptor {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil || err != nil {
		return nil
	}
	_ = nc.Close()                                                                     // the copy keeps the connection, and is non-blocking like it
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat) // not on a Unix socket
	return &descriptor{poller: p, fd: int32(fd)}
}

func (d *descriptor) leaving() {}

func (d *descriptor) closeWrite() error { return unix.Shutdown(int(d.fd), unix.SHUT_WR) }

// close must be called under the Conn's mu, once: the number may be another
// connection's right after.
func (d *descriptor) close() {
	d.poller.mu.Lock()
	delete(d.poller.conns, d.fd)
	d.poller.mu.Unlock()
	_ = unix.Close(int(d.fd)) // nothing can be done about a socket that does not close
}

// writeNow calls the kernel without telling Go's scheduler: the call takes
// microseconds and never blocks. sendto is a little less work than write.
func (d *descriptor) writeNow(b []byte) (n int, err error) {
	for n < len(b) {
		k, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(d.fd), uintptr(unsafe.Pointer(&b[n])), uintptr(len(b)-n),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			n += int(k)
		case unix.EINTR:
		case unix.EAGAIN:
			return n, nil
		default:
			return n, errno
		}
	}
	return n, nil
}
