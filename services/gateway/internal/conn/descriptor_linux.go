package conn

import (
	"io"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// parked is a socket that a poller waits for. Its methods are called under the
// Conn's mu, and none of them blocks.
type parked interface {
	wire
	quick
	at() *descriptor
	// readNow: errNothing means that there is nothing more to read at the moment,
	// any other error, io.EOF included, that there never will be. Both may come
	// with bytes.
	readNow(b []byte) (n int, err error)
}

// errNothing looks like a timeout to crypto/tls, which then keeps what it has
// of a record and can be asked again.
var errNothing net.Error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "there is nothing to read now" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// descriptor is a socket that belongs to nobody but its Conn.
type descriptor struct {
	poller *poller
	fd     int32
	gen    int32 // of this use of the number; guarded by the Conn's mu
}

// notSentLowat is how much the kernel takes for a client beyond what is on
// its way: without it a sleeping phone costs up to 4 MiB of its memory.
const notSentLowat = 16 << 10

// adopt takes a socket out of Go's poller: a plain one, or one that TLS lets go
// of. nil: it is another kind of connection, and still the caller's; else nc is
// this one's.
func (p *poller) adopt(d *descriptor, nc net.Conn) parked {
	if s := p.seal(d, nc); s != nil {
		return s
	}
	if p.take(d, nc) {
		return d
	}
	return nil
}

// take takes a plain socket, and closes nc.
func (p *poller) take(d *descriptor, nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil || err != nil {
		return false
	}
	_ = nc.Close()                                                                     // the copy keeps the connection, and is non-blocking like it
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat) // not on a Unix socket
	d.poller, d.fd = p, int32(fd)
	return true
}

func (d *descriptor) at() *descriptor { return d }

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

func (d *descriptor) readNow(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(d.fd), b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, errNothing
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		case n < len(b): // the next bytes are another event
			return n, errNothing
		default:
			return n, nil
		}
	}
}

// writeNow calls the kernel without telling Go's scheduler: the call takes
// microseconds and never blocks. sendto is a little less work than write.
func (d *descriptor) writeNow(b []byte) (n int, full bool, err error) {
	for n < len(b) {
		k, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(d.fd), uintptr(unsafe.Pointer(&b[n])), uintptr(len(b)-n),
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
