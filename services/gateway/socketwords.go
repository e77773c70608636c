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

// asSocketIO are messages in the forms of package socketio.
var asSocketIO = encodings{
	socketio.Plain:      socketEncoding(3, engineio.V4, socketio.Plain),
	socketio.Detailed:   socketEncoding(4, engineio.V4, socketio.Detailed),
	socketio.Recovering: socketEncoding(5, engineio.V4, socketio.Recovering),
}

// asSocketIOV3 are the same for revision 3 of Engine.IO, in which binary data is sent
// otherwise. Nobody recovers there.
var asSocketIOV3 = encodings{
	socketio.Plain:    socketEncoding(6, engineio.V3, socketio.Plain),
	socketio.Detailed: socketEncoding(8, engineio.V3, socketio.Detailed),
}

// encodings are by form.
type encodings [3]*hub.Encoding

func socketEncoding(slot int, v engineio.Version, form socketio.Form) *hub.Encoding {
	return hub.NewEncoding(slot, func(m *hub.Message) []byte { return socketMessage(m, v, form) })
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

// socketWords are the wordings of clients that are in the namespace, connectingWords those
// of clients that are on their way there, by the revision of Engine.IO that they speak.
var (
	socketWords     = byVersion(errorEvent, errorEvent)
	connectingWords = byVersion(connectErrorV4, connectError)
)

// byVersion makes wordings; three and four word what has failed.
func byVersion(three, four func(proto.ErrorFrame) []byte) map[engineio.Version][3]*wording {
	return map[engineio.Version][3]*wording{engineio.V3: wordForms(asSocketIOV3, three),
		engineio.V4: wordForms(asSocketIO, four)}
}

func wordForms(as encodings, failed func(proto.ErrorFrame) []byte) (forms [3]*wording) {
	for form, encoding := range as {
		if encoding == nil {
			continue
		}
		forms[form] = &wording{message: encoding, single: encoding, control: func(frame any) []byte {
			return socketControl(frame, socketio.Form(form), failed)
		}}
	}
	return forms
}

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
