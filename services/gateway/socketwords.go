package gateway

import (
	"fmt"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/engineio"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/gateway/internal/socketio"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// engineText is an Engine.IO packet as a frame.
func engineText(packet []byte) []byte { return ws.Encode(ws.Text, packet) }

// messagePacket is a Socket.IO packet as a frame.
func messagePacket(packet []byte) []byte {
	return engineText(append([]byte{engineio.Message}, packet...))
}

// socketSlot is the slot of hub.Encoding for messages in a form of package socketio.
func socketSlot(v engineio.Version, form socketio.Form, deflated bool) int {
	slot := slotSocketIO + int(form)
	if v == engineio.V3 { // nobody recovers there
		slot += int(socketio.Recovering) + 1
	}
	if deflated {
		slot += int(socketio.Recovering) + 1 + int(socketio.Detailed) + 1
	}
	return slot
}

// socketMessage is a message as one frame, or as two if its data is binary.
func socketMessage(m *hub.Message, v engineio.Version, form socketio.Form) []byte {
	packet, attachment := socketio.Message(m.Body, form)
	frames := messagePacket(packet)
	if attachment != nil {
		frames = ws.AppendFrame(frames, ws.Binary, v.Attachment(attachment))
	}
	return frames
}

// socketForms are wordings by the revision of Engine.IO and the form that clients expect.
type socketForms map[engineio.Version][3]frames

// socketWords are the wordings of clients that are in the namespace, and those of clients
// that are on their way there, which word otherwise what has failed.
type socketWords struct{ inside, connecting socketForms }

func newSocketWords(z compression) *socketWords {
	return &socketWords{
		inside: socketForms{
			engineio.V3: wordForms(z, engineio.V3, errorEvent), engineio.V4: wordForms(z, engineio.V4, errorEvent),
		},
		connecting: socketForms{
			engineio.V3: wordForms(z, engineio.V3, connectErrorV4),
			engineio.V4: wordForms(z, engineio.V4, connectError),
		},
	}
}

func wordForms(z compression, v engineio.Version, failed func(proto.ErrorFrame) []byte) (forms [3]frames) {
	for form := range socketio.Form(len(forms)) {
		if v == engineio.V3 && form == socketio.Recovering {
			continue
		}
		encoding := hub.NewEncoding(socketSlot(v, form, false), func(m *hub.Message) []byte {
			return socketMessage(m, v, form)
		})
		words := wording{message: encoding, single: encoding, control: func(frame any) []byte {
			return socketControl(frame, form, failed)
		}}
		if form == socketio.Recovering {
			words.moved = placeEvent
			words.changed = func(c *session) { // from now on messages bring no offset, and none replaces what it has
				c.words = forms[socketio.Detailed].of(&c.conn)
				c.conn.Push(placeEvent(""))
			}
		}
		forms[form] = z.both(words, socketSlot(v, form, true))
	}
	return forms
}

// placeEvent words the id from which a client recovers from now on; empty: it does not.
func placeEvent(id string) []byte { return messagePacket(socketio.NewEvent(socketio.EventPlace, id)) }

// socketControl words a control frame that nobody has asked for.
func socketControl(frame any, form socketio.Form, failed func(proto.ErrorFrame) []byte) []byte {
	switch f := frame.(type) {
	case proto.Gap:
		args := []any{f}
		if form == socketio.Recovering {
			args = append(args, f.ID)
		}
		return messagePacket(socketio.NewEvent(socketio.EventGap, args...))
	case proto.Unsubscribed:
		return messagePacket(socketio.NewEvent(socketio.EventUnsubscribed, f))
	case proto.ErrorFrame:
		return failed(f)
	}
	panic(fmt.Sprintf("gateway: no Socket.IO event for %T", frame))
}

// errorText is the argument of the event error. The predecessor had data alone.
type errorText struct {
	Data    string `json:"data"`
	Code    string `json:"code"`
	Channel string `json:"channel,omitempty"`
}

func errorEvent(f proto.ErrorFrame) []byte {
	return messagePacket(socketio.NewEvent(socketio.EventError, errorText{f.Detail, f.Code, f.Channel}))
}

// connectError words why a client is not let in. A client that is told so does not come
// back by itself; where it should, it is told nothing, and the connection ends.
func connectError(f proto.ErrorFrame) []byte {
	if passing[f.Code] {
		return nil
	}
	return messagePacket(socketio.Refused("/", f.Detail, failure{Error: f.Code, Channel: f.Channel}))
}

func connectErrorV4(f proto.ErrorFrame) []byte {
	if passing[f.Code] {
		return nil
	}
	return messagePacket(socketio.RefusedV4("/", f.Detail))
}

// passing are the names of the close codes after which the same request may succeed.
var passing = func() map[string]bool {
	names := map[string]bool{}
	for _, code := range proto.CloseCodes() {
		names[code.String()] = (&refusal{code: code}).passes()
	}
	return names
}()

// failure is what went wrong, in an acknowledgement.
type failure struct {
	Error   string `json:"error"`
	Detail  string `json:"detail,omitempty"`
	Channel string `json:"channel,omitempty"`
}

// resultOf is a control frame as the answer in an acknowledgement.
func resultOf(frame any) any {
	switch f := frame.(type) {
	case proto.Subscribed:
		return struct {
			Channel string `json:"channel"`
			Resumed bool   `json:"resumed"`
			ID      string `json:"id"`
		}{f.Channel, f.Resumed, f.ID}
	case proto.Unsubscribed:
		return struct {
			Channel string `json:"channel"`
		}{f.Channel}
	case proto.Authenticated:
		return struct {
			Subject string `json:"subject"`
			Expires string `json:"expires"`
		}{f.Subject, f.Expires}
	case proto.ErrorFrame:
		return failure{f.Code, f.Detail, f.Channel}
	}
	panic(fmt.Sprintf("gateway: no answer for %T", frame))
}

// socketFormat is the Format of Socket.IO over Engine.IO.
func socketFormat(v engineio.Version) *conn.Format {
	f := v.Format()
	f.Name, f.Goodbye, f.Subprotocol = "socketio", socketGoodbye, proto.Subprotocol
	return &f
}

var socketFormats = map[engineio.Version]*conn.Format{engineio.V3: socketFormat(engineio.V3),
	engineio.V4: socketFormat(engineio.V4)}

// socketGoodbye ends the transport. A client that is disconnected from the namespace
// before stays away until its page connects again, as one over the limit did with the
// predecessor; all others come back by themselves.
func socketGoodbye(code proto.CloseCode) []byte {
	goodbye := ws.EncodeClose(uint16(code), code.String())
	if code == proto.CloseNormal || code.ComeBack() && code != proto.CloseTooManyConnections {
		return goodbye
	}
	return append(messagePacket([]byte{socketio.Disconnect}), goodbye...)
}
