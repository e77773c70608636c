// Package engineio is the transport beneath Socket.IO: sessions over WebSocket and
// over HTTP long-polling, in revisions 3 and 4 of the Engine.IO protocol. The
// conn.Client of a session handles its messages.
//
// # A session that polls
//
// The package conn knows clients that speak WebSocket's frames. A session that
// polls is one of them: its socket (poll) turns the frames that are written to it
// into the packets of a response, and the packets of a POST into frames to be read. So a
// message is encoded once for all transports, and a session that upgrades goes on
// with the same queue: from then on its socket is the WebSocket's.
//
// The socket has no room while no GET is open. What is written then waits in the
// connection's queue, under its bounds. A session costs no goroutine between
// requests.
//
// # Locks
//
// A poll and a Server have a mutex each. Those may be locked while a connection's is
// held, never the other way round: the connection is called (Owner.Ready) without
// them.
package engineio
