//go:build linux

package main

import (
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const bareName = "bare"

// bare is no server but the least that one can cost: a loop of write(2) over the
// sockets of a channel, on one goroutine. It reads nothing, notices who has left
// only when it writes to them, and waits for a slow client.
type bare struct {
	mu       sync.Mutex
	channels map[string][]int // guarded by mu; sockets
}

func newBare(time.Duration) (fanout, error) { return &bare{channels: map[string][]int{}}, nil }

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = c.Close() }() // the copy of the descriptor stays
	fd, err := detach(c.(*net.TCPConn))
	if err != nil {
		return
	}
	channel := r.URL.Query().Get("channel")
	b.mu.Lock()
	b.channels[channel] = append(b.channels[channel], fd)
	b.mu.Unlock()
	// As long as nothing is published, nobody else writes.
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"+string(textFrame([]byte(welcome)))) // a client that is gone is not missed
}

// detach takes a copy of the socket, which Go's poller does not know.
func detach(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, err
}

func (b *bare) publish(channel string, body []byte) {
	frame := textFrame(body)
	b.mu.Lock()
	defer b.mu.Unlock()
	var gone []int
	for _, fd := range b.channels[channel] {
		if !writeAll(fd, frame) {
			gone = append(gone, fd)
		}
	}
	if len(gone) == 0 {
		return
	}
	b.channels[channel] = slices.DeleteFunc(b.channels[channel], func(fd int) bool { return slices.Contains(gone, fd) })
	for _, fd := range gone {
		_ = unix.Close(fd) // there is nothing left to lose
	}
}

// writeAll is one write, unless the socket is full, and reports whether the client
// is still there. Go's scheduler is not told of it, as a write that does not
// block need not be.
func writeAll(fd int, p []byte) bool {
	for len(p) > 0 {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch errno {
		case 0:
			p = p[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 1000) // then it is tried again
		default:
			return false
		}
	}
	return true
}
