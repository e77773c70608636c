// Package sse words messages and control frames as Server-Sent Events (WHATWG
// HTML, section 9.2). Bytes in, bytes out; it knows no socket.
//
// A message is an event without a name, so that one onmessage gets all of
// them, and its id is the event's id, which browsers send back as
// Last-Event-ID. A control frame is an event named by its type.
package sse

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
)

// Heartbeat is a comment: it keeps proxies from closing a silent connection,
// and browsers ignore it.
var Heartbeat = []byte(":\n\n")

// Message is a message as an event. An ephemeral one has no id, and leaves
// the browser's last one as it is.
func Message(id string, body []byte) []byte { return event("", id, body) }

// Control is a control frame (a proto.Welcome, proto.Gap, …) as an event named
// by its type. id, unless it is empty, becomes the place from which the
// browser resumes.
func Control(kind, id string, frame any) []byte {
	b, err := proto.Marshal(frame)
	if err != nil {
		panic(fmt.Sprintf("sse: %T does not marshal: %v", frame, err)) // frames are plain structs
	}
	return event(kind, id, b)
}

// Place sets the id from which the browser resumes, and dispatches no event.
func Place(id string) []byte { return []byte("id: " + id + "\n\n") }

// Retry sets after what time the browser comes back, in whole milliseconds.
func Retry(d time.Duration) []byte {
	return append(strconv.AppendInt([]byte("retry: "), d.Milliseconds(), 10), "\n\n"...)
}

// Close is the goodbye:
//
//	event: close
//	data: {"type":"close","code":1001,"reason":"going-away"}
func Close(code proto.CloseCode) []byte {
	return Control("close", "", struct {
		Type   string          `json:"type"`
		Code   proto.CloseCode `json:"code"`
		Reason string          `json:"reason"`
	}{"close", code, code.String()})
}

// event builds one event. A line break in the data begins another data line:
// the browser joins them again by a line feed, which JSON allows as well.
func event(kind, id string, data []byte) []byte {
	b := make([]byte, 0, len(data)+len(id)+len(kind)+32)
	if id != "" {
		b = append(b, "id: "...)
		b = append(b, id...)
		b = append(b, '\n')
	}
	if kind != "" {
		b = append(b, "event: "...)
		b = append(b, kind...)
		b = append(b, '\n')
	}
	for more := true; more; {
		var line []byte
		line, data, more = cutLine(data)
		b = append(b, "data: "...)
		b = append(b, line...)
		b = append(b, '\n')
	}
	return append(b, '\n')
}

// cutLine cuts at the first line feed, carriage return, or both.
func cutLine(b []byte) (line, rest []byte, more bool) {
	i := bytes.IndexAny(b, "\r\n")
	if i < 0 {
		return b, nil, false
	}
	if b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n' {
		return b[:i], b[i+2:], true
	}
	return b[:i], b[i+1:], true
}
