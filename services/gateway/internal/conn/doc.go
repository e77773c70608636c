// Package conn is one client's socket: handshake, frames, bounded queue,
// heartbeat, goodbye.
//
// A Conn is written to by anybody and never blocks them: Push writes as much as
// the socket takes at once, and queues the rest, bytes that nobody changes. A
// queue that exceeds its bound closes the connection with CloseSlowConsumer, a
// code that says "come back and resume".
//
// There are three forms of it behind the same methods:
//
//   - parked: on Linux, a WebSocket, plain or over TLS. The socket is taken out
//     of Go's poller; a few pollers wait for all of them, and read and write
//     without blocking. An idle client is a struct of some 500 bytes, and what
//     crypto/tls keeps: no goroutine, no buffer. A goroutine exists while its
//     Client has something to do.
//   - blocking: other systems, and what no poller takes. A goroutine reads; another exists while the
//     socket is full.
//   - stream: an HTTP response, which is only written to.
//
// Locking: each Conn has one mutex. Under it happen only reads and writes that
// cannot block (EAGAIN); where a system has none such, no read or write does.
// Set, each poller and each stream have a mutex of their own; a poller's or a
// stream's may be taken under a Conn's, never the other way round, and a Set's
// is taken alone.
package conn
