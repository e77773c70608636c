package gateway

import (
	"fmt"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// inFrames is the wording of Herald's own WebSocket protocol: JSON in text frames,
// as PROTOCOL.md describes it.
var inFrames = &wording{
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

var asFrame = hub.NewEncoding(0, func(m *hub.Message) []byte { return ws.Encode(ws.Text, m.Body) })

func controlFrame(frame any) []byte {
	b, err := proto.Marshal(frame)
	if err != nil {
		panic(fmt.Sprintf("gateway: %T does not marshal: %v", frame, err)) // frames are plain structs
	}
	return ws.Encode(ws.Text, b)
}

// frames are the wordings of WebSocket clients. They differ in whether messages
// may be compressed. Control frames never are: they are small, and each is for one
// client.
type frames struct{ plain, deflated *wording }

// newFrames makes them. Messages of above bytes and more are compressed if that
// makes them smaller; compressed is called for each message that is, once. What is
// read from the stream for one client (single) is not compressed: that would double
// what it costs when thousands of clients come back at once.
func newFrames(above int, compressed func()) frames {
	deflated := *inFrames
	deflated.message = hub.NewCostlyEncoding(2, func(m *hub.Message) []byte {
		if len(m.Body) >= above {
			compressed()
			if b := ws.EncodeDeflated(ws.Text, m.Body); b != nil {
				return b
			}
		}
		return m.Encoded(asFrame)
	})
	return frames{inFrames, &deflated}
}

// of is the wording for a client.
func (f frames) of(c *conn.Conn) *wording {
	if c.Deflates() {
		return f.deflated
	}
	return f.plain
}
