package conn

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"

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
	if c.dead || c.wire.(parked).at().gen != e.Pad { // the descriptor is another client's by now
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
		c.readAll(p.scratch, e.Events&^(unix.EPOLLIN|unix.EPOLLOUT) != 0)
	}
}

// watch begins to wait for a connection. What came before is reported, too.
func (p *poller) watch(c *Conn) {
	c.mu.Lock() // the poller must see all of c
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	w := c.wire.(parked)
	d := w.at()
	p.mu.Lock()
	p.gen++
	d.gen = p.gen
	p.conns[d.fd] = c
	p.mu.Unlock()
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: d.fd, Pad: d.gen}
	var err error
	if cerr := p.raw.Control(func(fd uintptr) { err = unix.EpollCtl(int(fd), unix.EPOLL_CTL_ADD, int(d.fd), &e) }); cerr != nil || err != nil {
		c.kill() // no more watches are allowed, or the poller has ended
	} else if w != d {
		p.readable(c) // something may have been read already that is no event any more
	}
}

// readable goes on with a connection whose reading was paused. c.mu is held.
func (p *poller) readable(c *Conn) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	c.readAll((*buf)[:cap(*buf)], true)
}

// readAll reads until there is nothing more, or too much. A short read says that
// there is nothing more, unless the end may come right behind it.
func (c *Conn) readAll(buf []byte, toEnd bool) {
	w := c.wire.(parked)
	for range readsAtOnce {
		if c.waiting >= maxInbox {
			break
		}
		n, err := w.readNow(buf)
		if n > 0 {
			c.received(buf[:n])
		}
		switch {
		case c.dead || err == errNothing && (n == 0 || !toEnd):
			return
		case err == errNothing || err == nil:
		default:
			c.hungUp()
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
