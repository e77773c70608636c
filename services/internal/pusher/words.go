package pusher

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/herald-push/herald/proto"
)

// Codes of pusher:error events and of close frames ("Error codes").
const (
	CodeNoApp       = 4001 // and so on: do not come back unchanged
	CodeNoPath      = 4005
	CodeBadVersion  = 4006
	CodeProtocol    = 4007
	CodeNoProtocol  = 4008
	CodeNotAllowed  = 4009
	CodeCapacity    = 4100 // come back after a second or more
	CodeReconnect   = 4200 // come back at once
	CodePong        = 4201
	CodeClientEvent = 4301 // no close
)

// CheckProtocol judges the parameter protocol of a client's URL, of which versions are
// the values. code is what the client is closed with; 0: it is served. Versions 5 to 7 are: 4 and before are
// no longer what Pusher supports, or do not know the ping of an event.
func CheckProtocol(versions []string) (code int, err error) {
	version := strings.Join(versions, ",") // several are no version
	_, err = strconv.ParseUint(version, 10, 64)
	switch {
	case version == "":
		return CodeNoProtocol, errors.New("the URL has no protocol; this server has 5, 6 and 7")
	case errors.Is(err, strconv.ErrSyntax):
		return CodeBadVersion, fmt.Errorf("protocol=%.20q is no version; this server has 5, 6 and 7", version)
	case version < "5" || version > "7" || len(version) != 1:
		return CodeProtocol, fmt.Errorf("protocol %.20s is not supported; this server has 5, 6 and 7", version)
	}
	return 0, nil
}

// Incoming is an event that a client sends.
type Incoming struct {
	Event   string
	Channel string // of the envelope: client events
	// Of the data of pusher:subscribe and pusher:unsubscribe.
	Name string // of the channel; set where it can be read, also with an error
	Auth string
	// Since is Herald's own: an id from which on the channel is resumed.
	Since string
}

// Events that clients send.
const (
	Ping        = "pusher:ping"
	Pong        = "pusher:pong"
	Subscribe   = "pusher:subscribe"
	Unsubscribe = "pusher:unsubscribe"
	Signin      = "pusher:signin"
	// ClientPrefix begins the events that clients send each other.
	ClientPrefix = "client-"
)

// Parse reads an event of a client. An error means that it is none, or that the data
// of a subscription is not as documented.
func Parse(b []byte) (in Incoming, err error) {
	var envelope map[string]json.RawMessage
	err = errors.Join(json.Unmarshal(b, &envelope), text(envelope, "event", &in.Event),
		text(envelope, "channel", &in.Channel))
	if err != nil {
		return Incoming{}, errors.New("want an object with a string event, an optional string channel, and data")
	}
	if in.Event == "" {
		return in, errors.New("event: missing; every message has one")
	}
	if in.Event != Subscribe && in.Event != Unsubscribe {
		return in, nil
	}
	data := envelope["data"]
	var inner string
	if len(data) > 0 && data[0] == '"' && json.Unmarshal(data, &inner) == nil { // "Double encoding"
		data = json.RawMessage(inner)
	}
	var fields map[string]json.RawMessage
	err = json.Unmarshal(data, &fields)
	err = errors.Join(err, text(fields, "channel", &in.Name), text(fields, "auth", &in.Auth),
		text(fields, "since", &in.Since))
	if err != nil || in.Name == "" {
		return in, fmt.Errorf("%s: data: want an object with the string channel, and perhaps the string auth", in.Event)
	}
	return in, nil
}

// text reads a member that is a string. One that is null counts as none. (A struct would take members in another case,
// too.)
func text(members map[string]json.RawMessage, name string, into *string) error {
	if value, ok := members[name]; ok {
		return json.Unmarshal(value, into)
	}
	return nil
}

// Established is the first event of a connection. activity is in seconds.
func Established(socketID string, activity int) []byte {
	return event("pusher:connection_established", "", map[string]any{"socket_id": socketID,
		"activity_timeout": activity})
}

// Succeeded answers pusher:subscribe. id, Herald's own, is where the subscription
// begins.
func Succeeded(channel, id string) []byte {
	data := map[string]any{}
	if id != "" {
		data["id"] = id
	}
	return event("pusher_internal:subscription_succeeded", channel, data)
}

// CacheMiss is what the subscriber of a cache channel gets where there is no event
// for it.
func CacheMiss(channel string) []byte { return event("pusher:cache_miss", channel, map[string]any{}) }

// PingEvent and PongEvent have no data.
var (
	PingEvent = event(Ping, "", map[string]any{})
	PongEvent = event(Pong, "", map[string]any{})
)

// Missed is Herald's own event for messages that are missing: gap is the frame
// that native clients get.
func Missed(channel string, gap any) []byte { return event("herald:gap", channel, gap) }

// Error is a pusher:error event. Its data is an object and no string ("System
// events"). code 0: none.
func Error(code int, message string) []byte {
	data := map[string]any{"message": message, "code": code}
	if code == 0 {
		data["code"] = nil
	}
	return marshal(map[string]any{"event": "pusher:error", "data": data})
}

// Refused is a pusher:subscription_error event, which client libraries hand to the
// channel; a pusher:error, which they hand to the connection, says the same.
func Refused(channel, kind, message string, status int) []byte {
	return marshal(map[string]any{"event": "pusher:subscription_error", "channel": channel,
		"data": map[string]any{"type": kind, "error": message, "status": status}})
}

// Message is a Herald message as an event of the app, as it stands in a text frame:
//
//	{"event":"created","channel":"orders","data":"{\"n\":1}","id":"mib3k2x9-1024"}
//
// id is Herald's own, and missing where the message has none. ok is false for a
// channel or body that no client of the app may get.
func (a *App) Message(channel, id string, body []byte) (_ []byte, ok bool) {
	name, ok := a.ChannelName(channel)
	if !ok {
		return nil, false
	}
	m, err := proto.ParseMessage(body)
	if err != nil || m.Event == "" {
		return nil, false
	}
	event := EventName(m.Event)
	if strings.HasPrefix(event, "pusher:") || strings.HasPrefix(event, "pusher_internal:") {
		return nil, false // the protocol's own events come from nobody else
	}
	b := append(make([]byte, 0, len(body)+len(body)/8+64), `{"event":`...)
	b = append(b, marshal(event)...)
	b = append(b, `,"channel":"`...)
	b = append(b, name...)
	b = append(b, `","data":`...)
	b = AppendData(b, m.Data)
	if id != "" {
		b = append(append(append(b, `,"id":"`...), id...), '"')
	}
	return append(b, '}'), true
}

// event encodes an event whose data is an object, as a string ("Double encoding").
func event(name, channel string, data any) []byte {
	e := struct {
		Event   string `json:"event"`
		Channel string `json:"channel,omitempty"`
		Data    string `json:"data"`
	}{name, channel, string(marshal(data))}
	return marshal(e)
}

func marshal(v any) []byte {
	b, err := proto.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("pusher: %T does not marshal: %v", v, err)) // it is strings and numbers
	}
	return b
}
