package proto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Limits of a message; ingest may be configured lower, never higher than what
// NATS accepts (max_payload, 1 MiB by default).
const (
	MaxMessageBytes = 64 << 10 // data, as JSON
	MaxRequestBytes = 8 << 20  // one POST other than an NDJSON stream
	MaxNameBytes    = 64       // a sender
	MaxEventBytes   = 200      // an event: what SDKs of Pusher send, whose events are often named after classes
	MaxDepth        = 64       // nesting of data: more is an attack or a mistake
	MaxKeyBytes     = 128      // idempotency key
	MaxChannels     = 100      // channels of one publication or one subscribe frame
)

// DefaultEvent is the event of a message that names none.
const DefaultEvent = "message"

// TimeLayout is how times are written everywhere: RFC 3339, UTC, milliseconds.
const TimeLayout = "2006-01-02T15:04:05.000Z"

// Message is one message as subscribers see it:
//
//	{"id":"mib3k2x9-1024","channel":"orders.eu","event":"message","data":{"n":1},"sender":"shop",
//	 "time":"2026-11-22T16:58:36.123Z"}
//
// In NATS it travels without the id (Body); the gateway splices the id in
// (AppendWithID). An ephemeral message has no id at all.
type Message struct {
	ID      string          `json:"id,omitempty"`
	Channel string          `json:"channel"`
	Event   string          `json:"event"`
	Data    json.RawMessage `json:"data"`
	Sender  string          `json:"sender"`
	Time    string          `json:"time"`
}

// AppendBody appends the client-ready JSON without the id, which is the body
// of the NATS message. Channel, Event and Sender must have passed
// CheckChannel, CheckEvent and CheckName, Data must be valid JSON: nothing is escaped.
func (m *Message) AppendBody(b []byte) []byte {
	b = append(b, beforeChannel...)
	b = append(b, m.Channel...)
	b = append(b, beforeEvent...)
	b = append(b, m.Event...)
	b = append(b, beforeData...)
	b = append(b, m.Data...)
	b = append(b, beforeSender...)
	b = append(b, m.Sender...)
	b = append(b, beforeTime...)
	b = append(b, m.Time...)
	return append(b, atEnd...)
}

// What stands around the values of a message's body.
const (
	beforeChannel = `{"channel":"`
	beforeEvent   = `","event":"`
	beforeData    = `","data":`
	beforeSender  = `,"sender":"`
	beforeTime    = `","time":"`
	atEnd         = `"}`
)

// AppendWithID appends the whole message: body with the id as first member.
// An empty id (ephemeral) leaves the body as it is. It never parses body.
func AppendWithID(b []byte, id Cursor, body []byte) []byte {
	if id.Epoch == "" || len(body) == 0 {
		return append(b, body...)
	}
	b = append(b, `{"id":"`...)
	b = id.AppendTo(b)
	b = append(b, `",`...)
	return append(b, body[1:]...)
}

// ParseMessage reads what AppendBody or AppendWithID wrote. The result keeps no
// reference to b.
func ParseMessage(b []byte) (Message, error) {
	m, ok := quickMessage(b)
	if ok {
		return m, nil
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, fmt.Errorf("message: %w", err)
	}
	if err := CheckChannel(m.Channel); err != nil {
		return Message{}, fmt.Errorf("message: %w", err)
	}
	return m, nil
}

// quickMessage is ParseMessage of a body that looks exactly like what AppendBody
// writes: no name in it can have a quote, so the data lies between the first and
// the last members. It takes a third of the time. Whatever else b is, it declines.
func quickMessage(b []byte) (Message, bool) {
	tail := len(b) - len(beforeTime) - len(TimeLayout) - len(atEnd)
	if tail < 0 || string(b[tail:tail+len(beforeTime)]) != beforeTime || string(b[len(b)-len(atEnd):]) != atEnd {
		return Message{}, false
	}
	at := b[tail+len(beforeTime) : len(b)-len(atEnd)]
	rest, ok := bytes.CutPrefix(b[:tail], []byte(beforeChannel))
	if !ok || bytes.ContainsAny(at, "\"\\") {
		return Message{}, false
	}
	channel, rest, ok := bytes.Cut(rest, []byte(beforeEvent))
	event, rest, more := bytes.Cut(rest, []byte(beforeData))
	i := bytes.LastIndex(rest, []byte(beforeSender))
	if !ok || !more || i <= 0 || space(rest[:1], 0) == 1 || space(rest[i-1:i], 0) == 1 {
		return Message{}, false
	}
	m := Message{Channel: string(channel), Event: string(event), Sender: string(rest[i+len(beforeSender):]),
		Time: string(at)}
	if CheckChannel(m.Channel) != nil || CheckEvent(m.Event) != nil || CheckName(m.Sender) != nil ||
		!utf8.ValidString(m.Time) || !json.Valid(rest[:i]) {
		return Message{}, false
	}
	m.Data = bytes.Clone(rest[:i])
	return m, true
}

// FormatTime writes t in TimeLayout.
func FormatTime(t time.Time) string { return t.UTC().Format(TimeLayout) }

// ErrName is wrapped by the errors of CheckName and CheckEvent.
var ErrName = errors.New("invalid name")

// CheckName reports whether s may be a sender: 1–64 bytes of UTF-8 without
// control characters, quotes (" ' `) and backslash, so that it stands in JSON
// without escaping.
func CheckName(s string) error { return checkName(s, MaxNameBytes) }

// CheckEvent reports whether s may be an event: the same with 1–200 bytes.
func CheckEvent(s string) error { return checkName(s, MaxEventBytes) }

func checkName(s string, most int) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(s) > most:
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrName, len(s), most)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: it is not UTF-8", ErrName)
	}
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r <= 0x9f || r == '"' || r == '\'' || r == '`' || r == '\\' || r == 0x2028 ||
			r == 0x2029 {
			return fmt.Errorf("%w: %q has a control character, quote or backslash", ErrName, s)
		}
	}
	return nil
}

// ErrData is wrapped by the errors of CheckData.
var ErrData = errors.New("invalid data")

// CheckData reports whether b may be a message's data: one JSON value, UTF-8,
// at most maxBytes long, nested at most MaxDepth deep, no object with the
// same key twice (readers would disagree on which one counts; RFC 8259
// section 4), no half of a surrogate pair (then the error is a *FieldError that
// points into b).
func CheckData(b []byte, maxBytes int) error {
	if err := checkLength(b, maxBytes); err != nil {
		return err
	}
	return CheckJSON(b, MaxDepth)
}

// CheckJSON is CheckData without the length, for JSON that may be nested at most maxDepth deep: for the whole of what a
// publisher sends, where encoding/json would choose between two equal keys, and replace what is no text.
func CheckJSON(b []byte, maxDepth int) error {
	if !utf8.Valid(b) {
		return fmt.Errorf("%w: it is not UTF-8", ErrData)
	}
	if !json.Valid(b) {
		return fmt.Errorf("%w: it is not JSON", ErrData)
	}
	if err := checkSurrogates(b); err != nil {
		return err
	}
	return checkNesting(b, maxDepth, nil)
}

func checkLength(data []byte, maxBytes int) error {
	if len(data) > maxBytes {
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrData, len(data), maxBytes)
	}
	return nil
}

// checkNesting walks valid JSON once and looks for depth and repeated keys.
// It calls member, if there is one, for each member of the outermost object,
// in order; name and value are parts of b, the name as it stands there.
func checkNesting(b []byte, maxDepth int, member func(name, value []byte)) error {
	if !bytes.ContainsAny(b, "{[") {
		return nil
	}
	// What most messages need lies on the stack.
	var levelSpace [8]level
	var keySpace [16][]byte
	levels, keys := levelSpace[:0], keySpace[:0]
	var name []byte // of the outermost object's member, whose value begins at start
	var start int
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			if len(levels) == maxDepth {
				return fmt.Errorf("%w: it is nested deeper than %d", ErrData, MaxDepth)
			}
			levels = append(levels, level{object: b[i] == '{', key: b[i] == '{', first: len(keys)})
		case ',', '}', ']':
			l := &levels[len(levels)-1]
			if len(levels) == 1 && name != nil && member != nil {
				member(name, bytes.Trim(b[start:i], " \t\r\n"))
			}
			if b[i] == ',' {
				l.key = l.object
				continue
			}
			keys, levels = keys[:l.first], levels[:len(levels)-1]
		case '"':
			end := i + 1
			for b[end] != '"' {
				if b[end] == '\\' {
					end++
				}
				end++
			}
			if len(levels) > 0 && levels[len(levels)-1].key {
				l := &levels[len(levels)-1]
				l.key = false
				key := b[i+1 : end]
				if len(levels) == 1 {
					colon := bytes.IndexByte(b[end:], ':')
					name, start = key, end+colon+1
				}
				if bytes.IndexByte(key, '\\') >= 0 { // "a" and "\u0061" are the same key
					var plain string
					if err := json.Unmarshal(b[i:end+1], &plain); err != nil {
						return fmt.Errorf("%w: %w", ErrData, err)
					}
					key = []byte(plain)
				}
				if l.has(keys[l.first:], key) {
					return fmt.Errorf("%w: an object has the key %q twice", ErrData, key)
				}
				keys = append(keys, key)
			}
			i = end
		}
	}
	return nil
}

// level is an object or array that checkNesting is inside of.
type level struct {
	object bool
	key    bool                // an object's key comes next
	first  int                 // where the object's keys begin among those of all levels
	many   map[string]struct{} // the same keys, once there are so many that comparing takes longer
}

// manyKeys is from where on a map is quicker than comparing.
const manyKeys = 16

// has reports whether key is among the keys so far; if it is not, it soon is.
func (l *level) has(keys [][]byte, key []byte) bool {
	if len(keys) < manyKeys {
		for _, k := range keys {
			if bytes.Equal(k, key) {
				return true
			}
		}
		return false
	}
	if l.many == nil {
		l.many = make(map[string]struct{}, 2*len(keys))
		for _, k := range keys {
			l.many[string(k)] = struct{}{}
		}
	}
	if _, twice := l.many[string(key)]; twice {
		return true
	}
	l.many[string(key)] = struct{}{}
	return false
}
