package gateway

import (
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/gateway/internal/native"
)

// inFrames words everything as WebSocket text frames of JSON.
var inFrames = &wording{
	message: asFrame,
	single:  asFrame,
	control: textFrame,
	welcome: func(f proto.Welcome, _ bool) []byte { return textFrame(f) },
	place:   func(string) []byte { return nil }, // the client keeps welcome's id
}

var asFrame = hub.NewEncoding(0, func(m *hub.Message) []byte { return conn.TextFrame(m.Body) })

func textFrame(frame any) []byte { return conn.TextFrame(native.Control(frame)) }

// frames are the wordings of WebSocket clients. They differ in whether messages
// may be compressed; control frames are small, and each is one client's.
type frames struct{ plain, deflated *wording }

// newFrames makes them. Messages of above bytes and more are compressed, where
// that makes them smaller; compressed is called for each, once. What is read
// from the stream for one client that was away for long is sent as it is: to
// compress it would double what it costs when thousands come back at once.
func newFrames(above int, compressed func()) frames {
	deflated := *inFrames
	deflated.message = hub.NewCostlyEncoding(2, func(m *hub.Message) []byte {
		if len(m.Body) >= above {
			compressed()
			if b := conn.DeflatedFrame(m.Body); b != nil {
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
