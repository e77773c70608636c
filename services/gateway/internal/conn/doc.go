// Package conn is one client: its bounded queue, its phase from open to closed, its
// heartbeat. The bytes of WebSocket are package ws's, the socket is package
// socket's.
//
// # Guarantees
//
// Push never blocks. It writes as much as the socket has room for, and enqueues the
// rest by reference: bytes that nobody may change. Bytes reach the client in the
// order in which they were pushed, in whole frames. A queue that would exceed its
// bound closes the connection with CloseSlowConsumer, a code that tells the client
// to come back and resume. A Client's methods are called one at a time: Arrived,
// then Frame for each message, then Ended. Ended is called once for every Conn that was
// started.
//
// # Phases
//
// A Conn is in one phase, which only grows. From closeQueued on nothing is enqueued
// any more, and the client's messages are discarded.
//
//	phase          what has happened                                  what comes in is
//	open           the handshake                                      decoded and handled
//	closeReceived  the client's close frame came; messages from       discarded
//	               before it wait for the Client, and the answer
//	               behind them
//	closeQueued    our close frame is in the queue                    decoded, up to a close frame
//	closeSent      our close frame is written                         decoded, up to a close frame
//	errorQueued    the client broke the protocol; our close frame     discarded
//	               is in the queue
//	halfClosed     the same, and it is written, and CloseWrite was    discarded
//	               called
//	lastQueued     both have said goodbye, or the client has hung     discarded
//	               up; what is queued still goes out
//	closed         the socket is closed                               not read
//
//	from                    to             when
//	open                    closeQueued    Close; a heartbeat that is not answered; a queue that
//	                                       is full; a token that has expired; a message of a
//	                                       kind that the Format does not accept
//	open                    closeReceived  a close frame came, and the Client is busy
//	open                    lastQueued     a close frame came, and the Client is not busy
//	closeReceived           lastQueued     the Client has handled the last message, and the
//	                                       answer is queued; or Close
//	open, closeQueued,      errorQueued    the client broke the protocol
//	closeSent
//	closeQueued             closeSent      the queue is empty
//	closeQueued, closeSent  lastQueued     a close frame came, or the end of the input
//	errorQueued             halfClosed     the queue is empty
//	errorQueued, halfClosed lastQueued     the end of the input
//	lastQueued              closed         the queue is empty
//	open                    closed         the end of the input
//	any                     closed         a write failed or made no progress for WriteStall;
//	                                       a heartbeat is not answered, and the socket has no
//	                                       room; after the goodbye, CloseWait is over
//
// halfClosed exists because a client that broke the protocol may still be sending,
// and closing a socket with unread input sends a reset, which would destroy our close
// frame on its way (RFC 1122 section 4.2.2.13).
//
// # Goroutines
//
// A Conn whose socket is polled has none, except while its Client has something to
// do (handle). With a blocking socket one reads for as long as
// the connection lives, and another (writeBlocking) exists while the socket has no
// room. An HTTP response has its handler's goroutine, and writeBlocking.
//
// # Locks
//
// Each Conn has one mutex. Under it happen only reads and writes that cannot block.
// Set, each poller and each response have a mutex of their own; those of a poller and
// of a response may be locked while a Conn's is held, never the other way round, and
// a Set's is locked alone.
//
// # Adding a dialect
//
// A dialect is another client protocol with the same messages. It needs:
//
//   - a Format: the bytes of its heartbeat and of its goodbye, and whether it accepts
//     binary messages;
//   - a way in: Set.Accept for WebSocket, Set.Respond for a response that is only
//     written to, or Set.Attach with a socket.Polled of its own, such as the HTTP
//     request that is open at the moment: it says that it is full while there is
//     none, and calls its Owner's Ready when one comes;
//   - a Client, whose Frame is given what the clients send. Whatever comes counts as
//     a sign of life, so an answer to a heartbeat needs no treatment.
//
// Package gateway adds what is said on the level of a session, in its wording.
package conn
