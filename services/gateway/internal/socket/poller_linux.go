package socket

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pollers watch sockets. The zero value watches none: Adopt returns nil.
type Pollers struct {
	all  []*poller
	next atomic.Uint64 // its remainder is the poller that gets the next socket
}

// Start makes n pollers, which watch from when Run is called. On an error, of a
// system that allows no epoll, there are none.
func (p *Pollers) Start(n int) error {
	var all []*poller
	for range n {
		one, err := newPoller()
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	p.all = all
	return nil
}

// Run watches until ctx ends. It returns when no Ready is being called any more, and
// none is called after that.
func (p *Pollers) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, one := range p.all {
		running.Go(func() { one.run(ctx) })
	}
	running.Wait()
}

// Adopt removes nc's socket from Go's network poller: a plain socket, or the one
// beneath a *tls.Conn if that lets it go (see Exchanger). nc must not be used any
// more then. nil means that nc is another kind of connection and still the
// caller's. memory is where a plain socket is kept.
func (p *Pollers) Adopt(memory *Parked, nc net.Conn) Polled {
	if len(p.all) == 0 {
		return nil
	}
	one := p.all[p.next.Add(1)%uint64(len(p.all))]
	if s := seal(one, memory, nc); s != nil {
		return s
	}
	if memory.adopt(one, nc) {
		return memory
	}
	return nil
}

// poller waits for many sockets in one goroutine. They are registered once,
// edge-triggered, with an epoll of their own, whose descriptor in turn waits in
// Go's network poller, so that no thread is blocked.
type poller struct {
	file *os.File // the epoll
	raw  syscall.RawConn

	mu      sync.Mutex
	watched map[int32]*Parked // guarded by mu; by descriptor
	gen     int32             // guarded by mu; of the last that was added

	scratch []byte // owned by run
}

// maxEvents is how many events the kernel is asked for at a time.
const maxEvents = 256

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), watched: map[int32]*Parked{},
		scratch: make([]byte, BufferBytes)}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("wait for an epoll: %w", err)
	}
	return p, nil
}

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
			p.dispatch(&events[i])
		}
	}
}

// dispatch calls the owner of the socket that an event is about, unless that was
// closed after the kernel reported the event: then the same number may be another
// socket's by now, of another generation.
func (p *poller) dispatch(e *unix.EpollEvent) {
	var owner Owner
	p.mu.Lock()
	if s := p.watched[e.Fd]; s != nil && s.gen == e.Pad {
		owner = s.owner
	}
	p.mu.Unlock()
	if owner == nil {
		return
	}
	owner.Ready(Event{
		Readable: e.Events&^unix.EPOLLOUT != 0,
		Writable: e.Events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0,
		Ending:   e.Events&^(unix.EPOLLIN|unix.EPOLLOUT) != 0,
	}, p.scratch)
}

// add begins to watch a socket.
func (p *poller) add(s *Parked, o Owner) error {
	p.mu.Lock()
	p.gen++
	s.owner, s.gen = o, p.gen
	p.watched[s.fd] = s
	p.mu.Unlock()
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: s.fd, Pad: s.gen}
	var err error
	if cerr := p.raw.Control(func(fd uintptr) {
		err = unix.EpollCtl(int(fd), unix.EPOLL_CTL_ADD, int(s.fd),
			&e)
	}); cerr != nil {
		return cerr
	}
	return err
}

// remove forgets a socket; to close its descriptor removes it from the epoll.
func (p *poller) remove(s *Parked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watched, s.fd)
}
