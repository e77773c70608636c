package conn

import (
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Format is how a dialect words what is not a message: the connection's own words.
// It is fixed before the first connection uses it.
type Format struct {
	// Name is that of the protocol, for people: websocket.
	Name string
	// Heartbeat is sent to a client that has been silent for the heartbeat interval: one
	// or more whole frames. A client that sends nothing at all for the interval after it
	// is closed with CloseHeartbeat; whatever it sends is a sign of life. Examples: a
	// WebSocket ping; a text frame of Engine.IO or Pusher; a comment of an event stream.
	Heartbeat []byte
	// Steady sends the heartbeat every interval, whatever else comes and goes: for clients
	// that count nothing else as a sign of life (Engine.IO).
	Steady bool
	// Goodbye returns what a client is sent last: one or more whole frames, after which
	// nothing follows. Over WebSocket the last one must be a close frame, with the
	// dialect's code for this one.
	Goodbye func(code proto.CloseCode) []byte
	// Binary accepts binary messages; a Format without it closes with CloseUnsupported.
	Binary bool
	// MaxMessageBytes bounds one message of the client, also when it is inflated; a
	// longer one closes with CloseTooBig. 0: proto.MaxFrameBytes.
	MaxMessageBytes int32
	// Subprotocol is named in the answer to a WebSocket handshake that offers it (RFC 6455
	// section 1.9); empty: none is.
	Subprotocol string
}

func (f *Format) maxMessageBytes() int {
	if f.MaxMessageBytes > 0 {
		return int(f.MaxMessageBytes)
	}
	return proto.MaxFrameBytes
}

// WebSocket is the Format of a dialect that has no words of its own for this: a ping,
// and a close frame with Herald's code and its name.
var WebSocket = &Format{
	Name:      "websocket",
	Heartbeat: ws.Encode(ws.Ping, nil),
	Goodbye:   func(code proto.CloseCode) []byte { return ws.EncodeClose(uint16(code), code.String()) },
}
