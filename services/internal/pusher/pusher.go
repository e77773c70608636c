// Package pusher is the Pusher protocol in Herald's terms: apps and their keys,
// signatures, and how names and data of the one are written in the other. It knows
// neither sockets nor NATS.
//
// Every mapping is reversible for what a Pusher client or SDK sends, so that its
// clients get names and data as they were published; what Herald cannot carry is
// refused with a reason. A native client follows the same channel under its
// Herald name, App.Channel.
//
// The rules are those of https://pusher.com/docs/channels: "Pusher Channels
// Protocol" (version 7), "HTTP API reference", "Authentication and authorization
// signatures" and "Channel naming conventions".
package pusher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/herald-push/herald/proto"
)

// MaxChannelBytes bounds a channel name, its kind included ("Channel naming
// conventions").
const MaxChannelBytes = 164

// userPrefix begins the channel of a user, to which SDKs send by sendToUser.
const userPrefix = "#server-to-user-"

// ErrChannel is wrapped by the errors of CheckChannel.
var ErrChannel = errors.New("invalid channel name")

// CheckChannel reports whether Pusher has channels of this name: 1–164 letters,
// digits and _ - = @ , . ;
func CheckChannel(name string) error {
	if strings.HasPrefix(name, userPrefix) {
		return fmt.Errorf("%w: %.200q: users are not supported by this server", ErrChannel, name)
	}
	if name == "" || len(name) > MaxChannelBytes {
		return fmt.Errorf("%w: it has %d characters, 1 to %d are allowed", ErrChannel, len(name), MaxChannelBytes)
	}
	for i := 0; i < len(name); i++ {
		if !channelByte(name[i]) {
			return fmt.Errorf("%w: %.200q; letters, digits and _ - = @ , . ; are allowed", ErrChannel, name)
		}
	}
	return nil
}

func channelByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_-=@,.;", c) >= 0
}

// Kind is what the beginning of a channel's name says of it.
type Kind int

// Every kind. Presence and encrypted channels are not supported.
const (
	Public    Kind = iota
	Private        // private-: who subscribes shows a signature
	Presence       // presence-
	Encrypted      // private-encrypted-
)

// KindOf is the kind of a channel, and whether a newcomer is sent its newest event
// (cache-, private-cache-).
func KindOf(name string) (kind Kind, cache bool) {
	switch {
	case strings.HasPrefix(name, "private-encrypted-"):
		return Encrypted, false
	case strings.HasPrefix(name, "presence-"):
		return Presence, false
	case strings.HasPrefix(name, "private-"):
		return Private, strings.HasPrefix(name, "private-cache-")
	}
	return Public, strings.HasPrefix(name, "cache-")
}

// emptyToken stands in Herald's channels for a token without characters, which
// Pusher's names may have ("a..b") and Herald's may not. No Pusher name has it.
const emptyToken = "~"

// channel is a Pusher name as a Herald channel, without the app's prefix.
func channel(name string) string {
	if !strings.Contains(name, "..") && name[0] != '.' && name[len(name)-1] != '.' {
		return name
	}
	tokens := strings.Split(name, ".")
	for i, t := range tokens {
		if t == "" {
			tokens[i] = emptyToken
		}
	}
	return strings.Join(tokens, ".")
}

// name is the reverse of channel. ok is false for what is no Pusher name.
func name(channel string) (_ string, ok bool) {
	if strings.Contains(channel, emptyToken) {
		tokens := strings.Split(channel, ".")
		for i, t := range tokens {
			if t == emptyToken {
				tokens[i] = ""
			}
		}
		channel = strings.Join(tokens, ".")
	}
	return channel, CheckChannel(channel) == nil
}

// events replaces, in the names of events, what Herald's may not have. Backslashes
// are the usual case: Laravel names events after classes (App\Events\Shipped). They
// become one byte each, so that the usual names stay short.
var (
	toHerald   = strings.NewReplacer(`\`, "|", "|", "~1", "~", "~0", `"`, "~2", "'", "~3", "`", "~4")
	fromHerald = strings.NewReplacer("|", `\`, "~1", "|", "~0", "~", "~2", `"`, "~3", "'", "~4", "`")
)

// Event is the name of a Pusher event as Herald's. The error says what is wrong
// with it.
func Event(name string) (string, error) {
	if strings.HasPrefix(name, "pusher:") || strings.HasPrefix(name, "pusher_internal:") {
		return "", fmt.Errorf("%.80q: events that begin with pusher: or pusher_internal: are the protocol's own", name)
	}
	event := toHerald.Replace(name)
	return event, proto.CheckEvent(event)
}

// EventName is the reverse of Event.
func EventName(event string) string {
	if !strings.ContainsAny(event, "|~") {
		return event
	}
	return fromHerald.Replace(event)
}

// Data is what a publisher calls data, a JSON value as it stands in its request, as
// the data of a Herald message. A string that is JSON itself, as SDKs send objects,
// becomes that value, so that native clients get it as one; any other string stays
// a string.
func Data(b json.RawMessage) json.RawMessage {
	var s string
	if len(b) == 0 || b[0] != '"' || json.Unmarshal(b, &s) != nil {
		return b
	}
	v := []byte(s)
	if len(v) == 0 || v[0] == '"' || !bytes.Equal(v, bytes.TrimSpace(v)) || proto.CheckData(v, len(v)) != nil {
		return b
	}
	return v
}

// AppendData appends the data of a Herald message as a JSON string, which is how
// Pusher's clients get all data: the reverse of Data.
func AppendData(b []byte, data json.RawMessage) []byte {
	if len(data) > 0 && data[0] == '"' {
		return append(b, data...)
	}
	return appendString(b, data)
}

// appendString appends JSON text as a JSON string.
func appendString(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
