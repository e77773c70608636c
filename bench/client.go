//go:build linux

package main

import (
	"bytes"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// client is one WebSocket connection: a bare socket and what came over it.
type client struct {
	fd     int
	number int
	read   bool // what it gets is read; else it is only counted
	walk   walker

	// Guarded by its reader's mu once it has one.
	bytes    int64 // since the last reset
	messages int64 // of one that is read
	dead     bool
}

// reader empties the sockets of many clients: one thread, one epoll, no
// memory per client. Those that are only counted are never copied out of the
// kernel (MSG_TRUNC), and the thread rests a millisecond after each round, so that
// it takes little from the server that is measured. Those that are read
// have a reader of their own, which does not rest, for the sake of their latency.
type reader struct {
	epoll int
	rest  time.Duration
	buf   []byte

	mu      sync.Mutex
	clients map[int]*client // by descriptor
	tally   tally           // of those that are read
}

// tally is what clients got since the last reset. In sums over processes the
// least are of the client that got least.
type tally struct {
	Connected     int        // now
	Dead          int        // ended by the server
	Read          int        // clients that are read
	Messages      int64      // all that they got
	LeastMessages int64      // that one of them got; -1 with none
	LeastBytes    int64      // that one of those got that are only counted; -1 with none
	ReadBytes     int64      // that the one with LeastMessages got
	Pings         int64      // to those that are read
	Latency       *histogram // of those that are read, from publisher to socket
}

func newReader(rest time.Duration) (*reader, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &reader{epoll: fd, rest: rest, buf: make([]byte, 64<<10), clients: map[int]*client{}, tally: tally{Latency: new(histogram)}}, nil
}

func (r *reader) add(c *client) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients[c.fd] = c
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | edge, Fd: int32(c.fd)})
}

// edge is EPOLLET as the unsigned number that it is.
const edge = uint32(1) << 31

// run reads for as long as the process lives.
func (r *reader) run() error {
	events := make([]unix.EpollEvent, 4096)
	for {
		n, err := unix.EpollWait(r.epoll, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		for _, e := range events[:n] {
			if c := r.clients[int(e.Fd)]; c != nil {
				r.empty(c)
			}
		}
		r.mu.Unlock()
		if r.rest > 0 {
			time.Sleep(r.rest)
		}
	}
}

func (r *reader) empty(c *client) {
	flags := unix.MSG_DONTWAIT
	if !c.read {
		flags |= unix.MSG_TRUNC
	}
	for !c.dead {
		// Without what unix.Recvfrom makes of the address, for each call.
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&r.buf[0])), uintptr(len(r.buf)), uintptr(flags), 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n == 0:
			c.dead = true
			return
		}
		c.bytes += int64(n)
		if c.read {
			c.walk.feed(r.buf[:n], func(opcode byte, payload []byte) { r.frame(c, opcode, payload) })
		}
		if int(n) < len(r.buf) {
			return
		}
	}
}

// frame counts one that came, and answers pings: those of WebSocket, and {}, which
// is how Centrifugo's library pings.
func (r *reader) frame(c *client, opcode byte, payload []byte) {
	switch {
	case opcode == opPing:
		r.tally.Pings++
		c.send(maskedFrame(opPong, payload))
	case opcode == opText && string(payload) == "{}":
		r.tally.Pings++
		c.send(maskedFrame(opText, payload))
	case opcode == opText:
		now := time.Now().UnixNano()
		n := eachStamp(payload, func(ns int64) { r.tally.Latency.add(time.Duration(now - ns)) })
		c.messages += int64(n)
		r.tally.Messages += int64(n)
	}
}

// send writes a small frame: the buffer of a client that is alive has room.
func (c *client) send(frame []byte) { _, _ = unix.Write(c.fd, frame) }

// reset begins to count anew.
func (r *reader) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally = tally{Latency: new(histogram)}
	for _, c := range r.clients {
		c.bytes, c.messages = 0, 0
	}
}

// count adds what this reader's clients got.
func (r *reader) count(t *tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Messages += r.tally.Messages
	t.Pings += r.tally.Pings
	t.Latency.merge(r.tally.Latency)
	for _, c := range r.clients {
		switch {
		case c.dead:
			t.Dead++
			continue
		case !c.read:
			if t.LeastBytes < 0 || c.bytes < t.LeastBytes {
				t.LeastBytes = c.bytes
			}
		default:
			t.Read++
			if t.LeastMessages < 0 || c.messages < t.LeastMessages {
				t.LeastMessages, t.ReadBytes = c.messages, c.bytes
			}
		}
		t.Connected++
	}
}

// drop ends all connections at once, by a reset, as when a network goes away;
// that also leaves no port behind in TIME_WAIT.
func (r *reader) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for fd := range r.clients {
		reset(fd)
	}
	clear(r.clients)
}

func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // without it the port waits a minute
	_ = unix.Close(fd)
}

// stampKey stands before the publisher's time, nanoseconds since 1970, in each
// message. Counting it counts messages also where a server puts several into one frame.
var stampKey = []byte(`"ts":`)

// eachStamp calls do with each stamp and returns how many there are.
func eachStamp(b []byte, do func(ns int64)) (n int) {
	for {
		i := bytes.Index(b, stampKey)
		if i < 0 {
			return n
		}
		b = b[i+len(stampKey):]
		var ns int64
		for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
			ns, b = ns*10+int64(b[0]-'0'), b[1:]
		}
		do(ns)
		n++
	}
}
