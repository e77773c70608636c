// Package ws is the codec of WebSocket (RFC 6455) and of its one extension,
// permessage-deflate (RFC 7692): bytes in, frames out. It keeps no socket and
// locks nothing.
//
//   - Encode, EncodeDeflated and EncodeClose make the bytes of one frame, once
//     per message; every connection writes the same bytes.
//   - A Decoder cuts what one client sends into frames and puts the fragments
//     of a message together, however the network has cut the bytes. Whatever
//     breaks the protocol comes back as the close code that says so.
//   - Upgrade answers the handshake and returns the socket.
//
// gorilla/websocket is used for the handshake only. Its reader is not, because
// it holds a goroutine and a buffer for as long as there is a client: NextReader
// blocks in the socket, does not return after a ping or a pong, and keeps the
// first error, a timeout included, for good. An idle client of this gateway has
// neither goroutine nor buffer. Its writer is not used either: encoding a frame
// is a header of 2 to 10 bytes before the payload. And its compression is off,
// because it accepts the first offer of permessage-deflate without a look at
// the parameters, so that a client may be promised what it does not get.
package ws
