package gateway

import (
	"fmt"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Slots of hub.Encoding: one for each way in which a message becomes bytes.
const (
	slotFrame = iota
	slotFrameDeflated
	slotEvent
	slotPusher // of all apps, since no two have the same channels
	slotPusherDeflated
	slotSocketIO // and nine more: see socketSlot
)

// inFrames is the wording of Herald's own WebSocket protocol: JSON in text frames,
// as PROTOCOL.md describes it.
var inFrames = wording{
	format: &conn.Format{Name: conn.WebSocket.Name, Heartbeat: conn.WebSocket.Heartbeat,
		Goodbye: conn.WebSocket.Goodbye, Subprotocol: proto.Subprotocol},
	parse:    proto.ParseClientFrame,
	confirms: true,
	message:  asFrame,
	single:   asFrame,
	control:  controlFrame,
	welcome:  func(f proto.Welcome, _ bool) []byte { return controlFrame(f) },
	place:    func(string) []byte { return nil }, // the client keeps welcome's id
	moved:    func(id string) []byte { return controlFrame(proto.Position{Type: proto.FramePosition, ID: id}) },
}

var asFrame = hub.NewEncoding(slotFrame, func(m *hub.Message) []byte { return ws.Encode(ws.Text, m.Body) })

func controlFrame(frame any) []byte {
	b, err := proto.Marshal(frame)
	if err != nil {
		panic(fmt.Sprintf("gateway: %T does not marshal: %v", frame, err)) // frames are plain structs
	}
	return ws.Encode(ws.Text, b)
}

// frames are the wordings of the clients of one dialect over WebSocket. They differ in
// whether messages may be compressed. Control frames never are: they are small, and each is
// for one client.
type frames struct{ plain, deflated *wording }

// of is the wording for a client.
func (f frames) of(c *conn.Conn) *wording {
	if c.Deflates() {
		return f.deflated
	}
	return f.plain
}

// compression compresses messages, each once for all clients of a dialect that negotiated
// it.
type compression struct {
	above int    // bytes from which on a frame is compressed, if that makes it smaller
	count func() // called for each message that is
}

// both makes the wordings of a dialect out of that without compression. Messages that are
// read from the stream for one client (single) are not compressed: that would double
// what it costs when thousands of clients come back at once.
func (z compression) both(plain wording, slot int) frames {
	deflated := plain
	deflated.message = hub.NewDerivedEncoding(slot, plain.message, z.deflate)
	plain.deflating = &deflated
	return frames{&plain, &deflated}
}

// deflate compresses those of a message's frames that are long enough; nil: none became
// smaller.
func (z compression) deflate(b []byte) (deflated []byte) {
	tried := false
	for rest := b; len(rest) > 0; {
		op, payload, after := ws.Cut(rest)
		var frame []byte
		if len(payload) >= z.above {
			tried = true
			frame = ws.EncodeDeflated(op, payload)
		}
		switch whole := len(rest) == len(b) && len(after) == 0; {
		case frame != nil && whole:
			deflated = frame
		case frame != nil && deflated == nil:
			deflated = append(append(make([]byte, 0, len(b)), b[:len(b)-len(rest)]...), frame...)
		case frame != nil:
			deflated = append(deflated, frame...)
		case deflated != nil:
			deflated = append(deflated, rest[:len(rest)-len(after)]...)
		}
		rest = after
	}
	if tried {
		z.count()
	}
	return deflated
}
