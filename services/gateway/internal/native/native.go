// Package native words messages and control frames for Herald's own
// WebSocket protocol: JSON text, as PROTOCOL.md describes it. Bytes in, bytes
// out; it knows no socket.
package native

import (
	"fmt"

	"github.com/herald-push/herald/proto"
)

// Control is a control frame (a proto.Welcome, proto.Gap, …) as JSON.
func Control(frame any) []byte {
	b, err := proto.Marshal(frame)
	if err != nil {
		panic(fmt.Sprintf("native: %T does not marshal: %v", frame, err)) // frames are plain structs
	}
	return b
}
