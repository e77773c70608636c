package socket

import (
	"io"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Parked is a plain socket that belongs to nobody but its owner, or the one
// beneath a TLS connection. Its memory is the owner's, who has some for each client
// anyway; Pollers.Adopt makes it usable.
type Parked struct {
	fd     int32
	gen    int32 // guarded by poller.mu; of this use of the descriptor's number
	poller *poller
	owner  Owner // guarded by poller.mu
}

// notSentLowat is how much the kernel accepts for a client beyond what is on its
// way: without this bound a sleeping phone costs up to 4 MiB of kernel memory.
const notSentLowat = 16 << 10

// adopt makes s the owner of nc's socket, and closes nc. It reports false if nc has
// no descriptor; then nc is unchanged.
func (s *Parked) adopt(p *poller, nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil ||
		err != nil {
		return false
	}
	// the copy keeps the connection, and is non-blocking like it
	_ = nc.Close()
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat) // fails on a Unix socket
	s.poller, s.fd = p, int32(fd)
	return true
}

// Watch implements Polled. It never says that bytes are readable: epoll reports those that came before as an event.
func (s *Parked) Watch(o Owner) (readable bool, err error) { return false, s.poller.add(s, o) }

// CloseWrite, Close, Read and Write: see Socket and Polled.
func (s *Parked) CloseWrite() error { return unix.Shutdown(int(s.fd), unix.SHUT_WR) }

// Close: another connection may have the number of the descriptor right after.
func (s *Parked) Close() {
	s.poller.remove(s)
	_ = unix.Close(int(s.fd)) // nothing can be done about a socket that does not close
}

func (s *Parked) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(s.fd), b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, ErrNothing
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		case n < len(b): // the next bytes are another event
			return n, ErrNothing
		default:
			return n, nil
		}
	}
}

// Write calls the kernel without telling Go's scheduler, since the call takes
// microseconds and never blocks. sendto is a little less work than write.
func (s *Parked) Write(b []byte) (n int, full bool, err error) {
	for n < len(b) {
		k, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[n])),
			uintptr(len(b)-n),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			n += int(k)
		case unix.EINTR:
		case unix.EAGAIN:
			return n, true, nil
		default:
			return n, false, errno
		}
	}
	return n, false, nil
}
