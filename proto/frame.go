package proto

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxFrameBytes bounds what a client may send in one frame: a subscribe frame
// with 100 names of 100 bytes, or a token, fits.
const MaxFrameBytes = 16 << 10

// WebSocket subprotocols that a client may offer (RFC 6455 section 1.9).
const (
	// Subprotocol is the frames of this package, and the one that is answered.
	Subprotocol = "herald"
	// SubprotocolToken and a token after it is how a page hands over a token that
	// should not stand in the URL. It is offered beside Subprotocol.
	SubprotocolToken = "herald.token."
)

// Types of control frames. A frame without "type" is a message.
const (
	// From the gateway.
	FrameWelcome       = "welcome"
	FrameSubscribed    = "subscribed"
	FrameUnsubscribed  = "unsubscribed"
	FrameAuthenticated = "authenticated"
	FrameGap           = "gap"
	FrameError         = "error"
	FramePong          = "pong"
	FramePosition      = "position"
	// From the client.
	FrameSubscribe   = "subscribe"
	FrameUnsubscribe = "unsubscribe"
	FramePing        = "ping"
	FrameAuth        = "auth"
)

// Welcome is the first frame on every connection.
type Welcome struct {
	Type string `json:"type"`
	// Connection is this connection's id, as it stands in the gateway's log.
	Connection string `json:"connection"`
	// Heartbeat is after how many silent seconds the gateway pings.
	Heartbeat int `json:"heartbeat"`
	// Channels are the subscriptions taken from the URL.
	Channels []string `json:"channels"`
	// Resumed says that everything after the client's since follows. False
	// without since, and when a gap frame follows.
	Resumed bool `json:"resumed"`
	// ID is where the connection starts: a client that has seen no message
	// yet resumes from here.
	ID string `json:"id"`
}

// Subscribed answers a subscribe frame. ID is the place from which the
// subscription is complete and live.
type Subscribed struct {
	Type    string `json:"type"`
	Channel string `json:"channel"`
	// Resumed is as in Welcome, for this channel.
	Resumed bool   `json:"resumed"`
	ID      string `json:"id"`
}

// Unsubscribed answers an unsubscribe frame, or says, with a reason, that a
// new token no longer allows the channel.
type Unsubscribed struct {
	Type    string `json:"type"`
	Channel string `json:"channel"`
	Reason  string `json:"reason,omitempty"`
}

// Authenticated answers an auth frame. Expires is when the connection ends
// unless another auth frame comes first.
type Authenticated struct {
	Type    string `json:"type"`
	Subject string `json:"subject"`
	Expires string `json:"expires"`
}

// Reasons for a gap.
const (
	GapExpired = "expired" // messages after since are no longer kept
	GapDamaged = "damaged" // the stream is damaged there: messages that it kept cannot be read
	GapEpoch   = "epoch"   // since is of another stream; nothing can be said
	GapLimit   = "limit"   // more was missed than one connection is sent
)

// Gap says that messages are missing: those after Since up to and including
// ID. What follows ID is complete.
type Gap struct {
	Type   string `json:"type"`
	Reason string `json:"reason"`
	Since  string `json:"since"`
	ID     string `json:"id"`
	// Channel is set where one subscription is meant, not the connection.
	Channel string `json:"channel,omitempty"`
}

// ErrorFrame says what was wrong with a frame, or why the connection ends.
type ErrorFrame struct {
	Type string `json:"type"`
	// Code is one word of the list in PROTOCOL.md, or a close code's name.
	Code    string `json:"code"`
	Detail  string `json:"detail"`
	Channel string `json:"channel,omitempty"`
}

// Codes of error frames that do not end the connection. Those that do bear
// the name of the close code.
const (
	ErrorForbidden  = "forbidden"   // the channel is not among the permitted ones
	ErrorBadChannel = "bad-channel" // not a channel or pattern
	ErrorBadSince   = "bad-since"   // not an id
	ErrorBadToken   = "bad-token"   // the auth frame's token was refused; the old one still holds
	ErrorLimit      = "limit"       // too many subscriptions
)

// Position says that the client has everything of its channels up to ID: the id
// to come back with, if it is newer than the one that the client keeps.
type Position struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// Pong answers a ping frame.
type Pong struct {
	Type string `json:"type"`
}

// ClientFrame is what a client may send.
//
//	{"type":"subscribe","channel":"orders.*","since":"mib3k2x9-1024"}
//	{"type":"unsubscribe","channel":"orders.*"}
//	{"type":"ping"}
//	{"type":"auth","token":"eyJ…"}
type ClientFrame struct {
	Type string `json:"type"`
	// Channel or Channels: channels or patterns.
	Channel  string   `json:"channel,omitempty"`
	Channels []string `json:"channels,omitempty"`
	// Since is an id, "all" or "last": what to send before going live.
	Since string `json:"since,omitempty"`
	Token string `json:"token,omitempty"`
}

var frameFields = []string{"type", "channel", "channels", "since", "token"}

// ErrFrame is wrapped by every error of ParseClientFrame.
var ErrFrame = errors.New("invalid frame")

// ParseClientFrame decodes one text frame. It checks the shape, not the
// names: a wrong channel is answered with an error frame, a wrong shape ends
// the connection with CloseInvalidPayload.
func ParseClientFrame(b []byte) (ClientFrame, error) {
	var f ClientFrame
	if !utf8.Valid(b) {
		return f, fmt.Errorf("%w: it is not UTF-8", ErrFrame)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return f, fmt.Errorf("%w: %w", ErrFrame, inJSONsWords(err))
	}
	if err := checkNesting(b, MaxDepth, nil); err != nil {
		return f, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	for name := range members { // by hand: encoding/json would accept "TYPE" as type
		if !slices.Contains(frameFields, name) {
			return f, fmt.Errorf("%w: unknown member %q; known are %s", ErrFrame, name, strings.Join(frameFields, ", "))
		}
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return ClientFrame{}, fmt.Errorf("%w: %w", ErrFrame, inJSONsWords(err))
	}
	switch f.Type {
	case FrameSubscribe, FrameUnsubscribe:
		if (f.Channel == "") == (len(f.Channels) == 0) {
			return ClientFrame{}, fmt.Errorf("%w: %s needs channel or channels", ErrFrame, f.Type)
		}
		if len(f.Channels) > MaxChannels {
			return ClientFrame{}, fmt.Errorf("%w: %d channels, at most %d are allowed", ErrFrame, len(f.Channels),
				MaxChannels)
		}
	case FrameAuth:
		if f.Token == "" {
			return ClientFrame{}, fmt.Errorf("%w: auth needs token", ErrFrame)
		}
	case FramePing:
	case "":
		return ClientFrame{}, fmt.Errorf("%w: type is missing", ErrFrame)
	default:
		return ClientFrame{}, fmt.Errorf("%w: type %q is not known", ErrFrame, f.Type)
	}
	return f, nil
}

// Targets are the channels or patterns that the frame names, in order.
func (f *ClientFrame) Targets() []string {
	if f.Channel != "" {
		return []string{f.Channel}
	}
	return f.Channels
}

// inJSONsWords says of a value of the wrong type what encoding/json says in
// Go's words, which a client's author need not know.
func inJSONsWords(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &wrong):
		return err
	case wrong.Field == "":
		return fmt.Errorf("want a JSON object, got a JSON %s", wrong.Value)
	case strings.HasPrefix(wrong.Field, "channels"):
		return fmt.Errorf("channels has a JSON %s; want an array of strings", wrong.Value)
	}
	return fmt.Errorf("%s is a JSON %s; want a string", wrong.Field, wrong.Value)
}
