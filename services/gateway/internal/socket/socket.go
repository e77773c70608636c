// Package socket is one client's socket, in the cheapest form that the system and
// the connection allow, behind one small interface: Socket. No Write blocks. What
// happens when the socket has no room, and how bytes come in, depends on the form:
//
//   - Polled: on Linux, a plain TCP or Unix socket (parked), or one beneath
//     crypto/tls (sealed). It is removed from Go's network poller and watched by a
//     Poller, one goroutine for many sockets, which calls its Owner when there is
//     something to read or room to write. An idle client has no goroutine and no
//     buffer: it is a Parked of 32 bytes, and what crypto/tls keeps.
//   - Blocking: other systems, and connections that no Poller can watch. One
//     goroutine of the owner blocks in Read; another, in WriteBy, exists while the
//     socket has no room.
//   - Response: an HTTP response that does not end (Server-Sent Events). It is
//     written to by WriteBy only, and nothing comes in.
//
// A socket belongs to one owner, who serializes all calls but Read and WriteBy of
// the blocking forms by a lock of its own. A Poller has a lock, too, which it never
// holds while it calls an Owner; an owner may hold its lock while it calls into
// this package.
package socket

import (
	"net"
	"time"
)

// Socket is one client's socket.
type Socket interface {
	// Write writes n bytes of b, as many as there is room for; it does not block.
	// full means that there is no more room: for the rest of b or, if n is len(b),
	// for bytes that the socket keeps itself, such as a TLS record. b may be empty:
	// then Write writes what the socket keeps. After full, the owner writes again
	// when a Poller calls Ready, or by WriteBy.
	Write(b []byte) (n int, full bool, err error)
	// CloseWrite tells the client that nothing more will come (a FIN). It may block
	// in the blocking forms.
	CloseWrite() error
	// Close closes the socket and ends every Read and WriteBy under way. It does not
	// block, and must be called once.
	Close()
}

// Polled is a socket that a Poller watches.
type Polled interface {
	Socket
	// Watch has the Poller call o from now on. It reports whether bytes may have come
	// before, for which no call of Ready follows. On an error the socket is not
	// watched: the system allows no more, or the poller has ended.
	Watch(o Owner) (readable bool, err error)
	// Read reads without blocking. ErrNothing means that there is nothing more to
	// read at the moment; any other error, io.EOF included, that nothing ever comes
	// again. Both may come with bytes.
	Read(b []byte) (n int, err error)
}

// Blocking is a socket that goroutines wait for.
type Blocking interface {
	Socket
	DeadlineWriter
	// Read blocks until something comes.
	Read(b []byte) (n int, err error)
}

// DeadlineWriter is a socket that has been without room.
type DeadlineWriter interface {
	// WriteBy writes all of b, and blocks until that is done, the deadline is over
	// (an error whose Timeout is true) or the socket is closed. The deadline holds for
	// this call only.
	WriteBy(b []byte, deadline time.Time) (n int, err error)
}

// Owner is whose socket a Poller watches.
type Owner interface {
	// Ready is called by the poller's goroutine, and must not block: all other sockets
	// of that poller wait meanwhile. scratch is memory to read into, valid until Ready
	// returns. A call may come late, after the owner has closed the socket.
	Ready(e Event, scratch []byte)
}

// Event is what a Poller saw.
type Event struct {
	Readable bool // there is something to read, or the end
	Writable bool // there is room to write, or an error to be learnt by writing
	Ending   bool // the client has sent its FIN, or the socket is broken: read up to the end
}

// ErrNothing is what Polled.Read returns when nothing more can be read at the
// moment. crypto/tls knows it as a timeout: it keeps what it has of a record, and
// can be asked again.
var ErrNothing net.Error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "there is nothing to read now" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// BufferBytes is the largest useful write or read: what a TLS record holds.
const BufferBytes = 16 << 10
