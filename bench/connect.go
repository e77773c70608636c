//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// inFlight is how many clients of one process shake hands at a time: what a server
// sees when all come at once, but its queue of connections does not overflow.
const inFlight = 256

// connectTimeout bounds a storm, with patience for each client: what a handshake
// costs both sides is a twentieth of it.
const connectTimeout, patience = 90 * time.Second, 5 * time.Millisecond

// handshake is a client on its way: it connects, asks for the upgrade, says
// hello if it must, and is there when the server's first frame is.
type handshake struct {
	*client
	from    [4]byte // address
	request []byte
	hello   []byte
	asked   bool
	head    []byte // the HTTP answer so far; nil after it
	up      bool
}

// storm connects clients, inFlight at a time, and gives each to done when it is there.
func storm(addr netip.AddrPort, waiting []*handshake, done func(*client) error) error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(epoll) }()
	under := map[int]*handshake{}
	defer func() {
		for fd := range under {
			reset(fd)
		}
	}()
	events, buf := make([]unix.EpollEvent, inFlight), make([]byte, 16<<10)
	timeout := connectTimeout + time.Duration(len(waiting))*patience
	for deadline := time.Now().Add(timeout); len(waiting)+len(under) > 0; {
		for len(under) < inFlight && len(waiting) > 0 {
			h := waiting[0]
			waiting = waiting[1:]
			if err := h.dial(addr); err != nil {
				return fmt.Errorf("client %d: connect: %w", h.number, err)
			}
			under[h.fd] = h
			if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, h.fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(h.fd)}); err != nil {
				return err
			}
		}
		n, err := unix.EpollWait(epoll, events, 1000)
		if err != nil && err != unix.EINTR {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d clients are not connected after %s", len(waiting)+len(under), timeout)
		}
		for _, e := range events[:max(0, n)] {
			h := under[int(e.Fd)]
			there, err := h.step(epoll, buf)
			if err != nil {
				return fmt.Errorf("client %d: %w", h.number, err)
			}
			if !there {
				continue
			}
			delete(under, h.fd)
			if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_DEL, h.fd, nil); err != nil {
				return err
			}
			if err := done(h.client); err != nil {
				return err
			}
		}
	}
	return nil
}

// source is the n-th address that clients come from: 127.1.0.1 and so on, of
// which there are 16 million.
func source(n int) (a [4]byte) {
	binary.BigEndian.PutUint32(a[:], 0x7f010001+uint32(n))
	return a
}

// sources is how many there are, up to 127.255.255.254.
const sources = 0x7ffffffe - 0x7f010001 + 1

// dial begins to connect. The port is chosen when the address of the server is known.
func (h *handshake) dial(addr netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	h.fd = fd
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: h.from}))
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
	}
	if err == nil || errors.Is(err, unix.EINPROGRESS) {
		return nil
	}
	_ = unix.Close(fd)
	return err
}

// step does what the socket is ready for.
func (h *handshake) step(epoll int, buf []byte) (there bool, err error) {
	if !h.asked {
		if code, err := unix.GetsockoptInt(h.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			return false, fmt.Errorf("connect: %w", errors.Join(err, unix.Errno(code)))
		}
		if _, err := unix.Write(h.fd, h.request); err != nil {
			return false, fmt.Errorf("ask for the upgrade: %w", err)
		}
		h.asked = true
		return false, unix.EpollCtl(epoll, unix.EPOLL_CTL_MOD, h.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(h.fd)})
	}
	n, err := unix.Read(h.fd, buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("shake hands: %w", err)
	case n == 0:
		return false, fmt.Errorf("shake hands: the server hung up after %q", h.head)
	}
	p := buf[:n]
	if !h.up {
		h.head = append(h.head, p...)
		end := bytes.Index(h.head, []byte("\r\n\r\n"))
		if end < 0 {
			return false, nil
		}
		if !bytes.HasPrefix(h.head, []byte("HTTP/1.1 101 ")) {
			return false, fmt.Errorf("shake hands: got %q, want 101", h.head)
		}
		p, h.head, h.up = h.head[end+4:], nil, true
		if h.hello != nil {
			h.send(h.hello)
		}
	}
	h.bytes += int64(len(p))
	h.walk.feed(p, func(_ byte, payload []byte) { h.messages += int64(eachStamp(payload, func(int64) {})) })
	return h.walk.frames > 0, nil
}
