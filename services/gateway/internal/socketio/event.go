package socketio

import (
	"encoding/json"
	"fmt"

	"github.com/herald-push/herald/proto"
)

// Names of Herald's own events.
const (
	// EventMessage is the event of broadcast, and of messages whose own event's name is
	// one that Socket.IO uses itself.
	EventMessage = "message"
	// EventError says what was wrong: {"data": …} as the predecessor did, and code.
	EventError = "error"
	// EventGap says that messages are missing.
	EventGap = "herald:gap"
	// EventUnsubscribed says that a new token does not cover a channel.
	EventUnsubscribed = "herald:unsubscribed"
	// EventPlace has the place from which the client recovers as its last argument.
	EventPlace = "herald:place"
)

// Form is how many arguments a client expects.
type Form uint8

const (
	// Plain clients get the data alone: with python-socketio, a handler of one argument
	// that is given two raises an error.
	Plain Form = iota
	// Detailed clients get a second argument: {id, channel, sender, time}.
	Detailed
	// Recovering clients get the message's id besides, as the last argument, which JavaScript
	// clients from 4.6 on keep and send as the offset when they come back.
	Recovering
)

// message is the client-ready JSON of a message.
type message struct {
	ID      string          `json:"id"`
	Channel string          `json:"channel"`
	Event   string          `json:"event"`
	Data    json.RawMessage `json:"data"`
	Sender  string          `json:"sender"`
	Time    string          `json:"time"`
}

// details is the second argument. ID is empty for an ephemeral message.
type details struct {
	ID      string `json:"id,omitempty"`
	Channel string `json:"channel"`
	Sender  string `json:"sender"`
	Time    string `json:"time"`
}

// Message words a message, given as its client-ready JSON:
//
//	2["message",{"data":"hi"},{"id":…,"channel":"broadcast","sender":…,"time":…},"mib3k2x9-1024"]
//	2["created",{"n":1}]
//
// broadcast comes as the event message, with an object around its data, as the
// predecessor sent it. A body that is no message, which NATS may hold, is the data itself.
//
// Binary data (proto.Binary) is an attachment, which goes out behind the packet; nil: there is
// none.
//
//	51-["message",{"data":{"_placeholder":true,"num":0}}]
func Message(body []byte, form Form) (packet, attachment []byte) {
	var m message
	if err := json.Unmarshal(body, &m); err != nil || m.Data == nil {
		m = message{Data: body}
	}
	event := m.Event
	data := m.Data
	attachment, binary := proto.Binary(data)
	if binary {
		data = placeholder
	}
	if m.Channel == proto.Broadcast {
		event = EventMessage
		data = append(append(make([]byte, 0, len(data)+9), `{"data":`...), data...)
		data = append(data, '}')
	}
	if event == "" || Reserved(event) {
		event = EventMessage
	}
	b := make([]byte, 0, len(body)+len(data)+32)
	if binary {
		b = append(b, BinaryEvent, '1', '-')
	} else {
		b = append(b, Event)
	}
	b = append(append(append(b, '['), encode(event)...), ',')
	b = append(b, data...)
	if form >= Detailed {
		b = append(append(b, ','), encode(details{m.ID, m.Channel, m.Sender, m.Time})...)
	}
	if form == Recovering && m.ID != "" {
		b = append(append(b, ','), encode(m.ID)...)
	}
	return append(b, ']'), attachment
}

// placeholder stands for the attachment.
var placeholder = []byte(`{"_placeholder":true,"num":0}`)

// NewEvent words an event of Herald's own.
func NewEvent(name string, args ...any) []byte {
	return Packet{Type: Event, ID: NoID, Data: encode(append([]any{name}, args...))}.Append(nil)
}

// NewAck answers the event with this id.
func NewAck(id string, args ...any) []byte {
	if args == nil {
		args = []any{}
	}
	return Packet{Type: Ack, ID: id, Data: encode(args)}.Append(nil)
}

// Connected says that the client is in the main namespace. In revision 5 it says as who: sid
// is public, and pid, unless it is empty, what the client shows to recover its state.
func Connected(sid, pid string) []byte {
	return Packet{Type: Connect, ID: NoID, Data: encode(struct {
		SID string `json:"sid"`
		PID string `json:"pid,omitempty"`
	}{sid, pid})}.Append(nil)
}

// Refused says, in revision 5, why the client is not let into a namespace. more is
// what a JavaScript client finds in its error's data; nil: nothing.
func Refused(namespace, text string, more any) []byte {
	return Packet{Type: ConnectError, Namespace: namespace, ID: NoID, Data: encode(struct {
		Message string `json:"message"`
		Data    any    `json:"data,omitempty"`
	}{text, more})}.Append(nil)
}

// RefusedV4 is Refused in revision 4: there is only a text.
func RefusedV4(namespace, text string) []byte {
	return Packet{Type: ConnectError, Namespace: namespace, ID: NoID, Data: encode(text)}.Append(nil)
}

func encode(v any) []byte {
	b, err := proto.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("socketio: %T does not marshal: %v", v, err)) // plain values of this package and of proto
	}
	return b
}
