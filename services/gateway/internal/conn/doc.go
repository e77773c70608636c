// Package conn is one client's socket: handshake, frames, bounded queue,
// heartbeat, goodbye.
//
// A Conn is written to by anybody and never blocks them: Send queues bytes
// that nobody changes, Flush writes as much as the socket takes at once. Only
// while a socket is full does a goroutine exist that waits for it; an idle
// client has one goroutine, its reader, and no writer. A queue that exceeds
// its bound closes the connection with CloseSlowConsumer, a code that says
// "come back and resume".
//
// Locking: each Conn has one mutex. Under it happen only writes that cannot
// block (EAGAIN), and, where there are none such (TLS), no writes. Set has a
// mutex of its own; neither is taken while the other is held.
package conn
