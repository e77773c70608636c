package engineio

import (
	"fmt"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Format is the conn.Format of a revision, without a Goodbye. In revision 4 the server
// pings; clients count nothing else as a sign of life. In revision 3 they ping.
func (v Version) Format() conn.Format {
	f := conn.Format{Binary: true}
	if v == V4 {
		f.Heartbeat, f.Steady = frame(string(Ping)), true
	}
	return f
}

// Receive does what a packet of a client asks of Engine.IO itself: it answers a ping,
// and closes c for a close packet. ok reports a message, which is the session's to handle. An
// error, which wraps ErrPacket, means that the client broke the protocol.
func (v Version) Receive(c *conn.Conn, b []byte, binary bool) (message Packet, ok bool, err error) {
	p, err := v.Parse(b, binary)
	if err != nil {
		return p, false, err
	}
	switch heartbeat := p.Type == Ping || p.Type == Pong; {
	case heartbeat && (p.Type == Ping) != (v == V3):
		return p, false, fmt.Errorf("%w: in revision %d this side sends no %c", ErrPacket, v, p.Type)
	case p.Type == Ping:
		c.Push(ws.Encode(ws.Text, append([]byte{Pong}, p.Data...)))
	case p.Type == Close:
		c.Close(proto.CloseNormal)
	}
	return p, p.Type == Message, nil
}
