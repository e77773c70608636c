package proto

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Publication is what a publisher sends: one element of POST /v1/messages.
//
//	{"channel":"orders.eu","data":{"n":1},"event":"created","id":"order-17","ttl":3600}
type Publication struct {
	// Channel or Channels, not both: where the message goes.
	Channel  string   `json:"channel,omitempty"`
	Channels []string `json:"channels,omitempty"`
	// Data is any JSON value; required.
	Data json.RawMessage `json:"data"`
	// Event is DefaultEvent where empty.
	Event string `json:"event,omitempty"`
	// ID is the idempotency key: the same key to the same channel within two
	// minutes stores once. Ignored for ephemeral messages.
	ID string `json:"id,omitempty"`
	// Ephemeral messages reach only who is connected now: not stored, not
	// logged, without id.
	Ephemeral bool `json:"ephemeral,omitempty"`
	// TTL is how many seconds the message is kept for clients that come back;
	// 0 means as long as the stream keeps any.
	TTL int64 `json:"ttl,omitempty"`
}

// MaxTTL is a year in seconds; more is surely another unit.
const MaxTTL = 366 * 24 * 3600

// FieldError says which member of a JSON object is wrong, and why.
type FieldError struct {
	Field string // JSON pointer within the object: "/channel"; "" is the object itself
	Err   error
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Err.Error()
	}
	return strings.TrimPrefix(e.Field, "/") + ": " + e.Err.Error()
}
func (e *FieldError) Unwrap() error { return e.Err }

var publicationFields = []string{"channel", "channels", "data", "event", "id", "ephemeral", "ttl"}

// ParsePublication decodes and checks one publication. maxBytes bounds data.
// Errors are *FieldError. The result keeps no reference to b.
func ParsePublication(b []byte, maxBytes int) (Publication, error) {
	p, err := decodePublication(b)
	if err != nil {
		return Publication{}, err
	}
	if err := p.Check(maxBytes); err != nil {
		return Publication{}, err
	}
	return p, nil
}

func decodePublication(b []byte) (Publication, error) {
	var p Publication
	fail := func(field string, err error) (Publication, error) {
		return Publication{}, &FieldError{Field: field, Err: err}
	}
	if !utf8.Valid(b) {
		return fail("", fmt.Errorf("%w: it is not UTF-8", ErrData))
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return fail("", jsonError(err))
	}
	if members == nil {
		return fail("", errors.New("a message is a JSON object, this is null"))
	}
	// Before the members: a repeated key must not choose between them. Data
	// may be MaxDepth deep by itself, inside this object it is one deeper.
	if err := checkNesting(b, MaxDepth+1); err != nil {
		return fail("", err)
	}
	for name := range members {
		if !slices.Contains(publicationFields, name) {
			return fail("/"+pointerEscape.Replace(name), fmt.Errorf("unknown member; known are %s", strings.Join(publicationFields, ", ")))
		}
	}
	for _, f := range []struct {
		name string
		into any
		want string
	}{
		{"channel", &p.Channel, "a string"}, {"channels", &p.Channels, "an array of strings"}, {"event", &p.Event, "a string"},
		{"id", &p.ID, "a string"}, {"ephemeral", &p.Ephemeral, "true or false"}, {"ttl", &p.TTL, "a whole number of seconds"},
	} {
		raw, ok := members[f.name]
		if !ok {
			continue
		}
		if err := json.Unmarshal(raw, f.into); err != nil || string(raw) == "null" {
			return fail("/"+f.name, fmt.Errorf("want %s", f.want))
		}
		if f.name != "channels" && f.name != "ephemeral" && f.name != "ttl" && string(raw) == `""` {
			return fail("/"+f.name, errors.New("it is empty"))
		}
	}
	p.Data = members["data"]
	return p, nil
}

// pointerEscape makes a member's name a token of a JSON pointer (RFC 6901 section 3).
var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

// jsonError words an encoding/json error for the person who sent the body.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%w: %s at byte %d", ErrData, syntax.Error(), syntax.Offset)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("want a JSON object, got a JSON %s", kind.Value)
	}
	return fmt.Errorf("%w: %w", ErrData, err)
}

// Check validates a publication and fills in the default event. Errors are
// *FieldError.
func (p *Publication) Check(maxBytes int) error {
	switch {
	case p.Channel == "" && len(p.Channels) == 0:
		return &FieldError{"/channel", errors.New("missing; a message goes to a channel")}
	case p.Channel != "" && p.Channels != nil:
		return &FieldError{"/channels", errors.New("give channel or channels, not both")}
	case len(p.Channels) > MaxChannels:
		return &FieldError{"/channels", fmt.Errorf("%d channels, at most %d are allowed", len(p.Channels), MaxChannels)}
	case p.Data == nil:
		return &FieldError{"/data", errors.New("missing; any JSON value will do")}
	case p.TTL < 0 || p.TTL > MaxTTL:
		return &FieldError{"/ttl", fmt.Errorf("%d seconds; allowed are 0 to %d (a year)", p.TTL, MaxTTL)}
	}
	if p.Channel != "" {
		if err := CheckChannel(p.Channel); err != nil {
			return &FieldError{"/channel", err}
		}
	}
	seen := make(map[string]bool, len(p.Channels))
	for i, ch := range p.Channels {
		field := "/channels/" + strconv.Itoa(i)
		if err := CheckChannel(ch); err != nil {
			return &FieldError{field, err}
		}
		if seen[ch] {
			return &FieldError{field, fmt.Errorf("%q is named twice", ch)}
		}
		seen[ch] = true
	}
	if p.Event == "" {
		p.Event = DefaultEvent
	}
	if err := CheckName(p.Event); err != nil {
		return &FieldError{"/event", err}
	}
	if err := CheckKey(p.ID); p.ID != "" && err != nil {
		return &FieldError{"/id", err}
	}
	if err := CheckData(p.Data, maxBytes); err != nil {
		return &FieldError{"/data", err}
	}
	return nil
}

// Targets are the channels that the publication goes to, in order.
func (p *Publication) Targets() []string {
	if p.Channel != "" {
		return []string{p.Channel}
	}
	return p.Channels
}

// CheckKey reports whether s may be an idempotency key: 1–128 bytes of
// printable ASCII without spaces, as it travels in a NATS header.
func CheckKey(s string) error {
	if s == "" || len(s) > MaxKeyBytes {
		return fmt.Errorf("an idempotency key has 1 to %d bytes, this one %d", MaxKeyBytes, len(s))
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return errors.New("an idempotency key is printable ASCII without spaces")
		}
	}
	return nil
}

// What became of one message of a publication.
const (
	StatusStored    = "stored"    // JetStream acknowledged it
	StatusDuplicate = "duplicate" // its idempotency key was seen before; id is the first one's
	StatusSent      = "sent"      // ephemeral: passed on, not stored
	StatusFailed    = "failed"    // not stored, or not known to be: send it again with the same key
	StatusInvalid   = "invalid"   // NDJSON only: this line is wrong, see problem
)

// Result is what became of one message, in the order in which they were sent.
type Result struct {
	// Line counts the lines of an NDJSON stream from 1.
	Line    int      `json:"line,omitempty"`
	Status  string   `json:"status"`
	ID      string   `json:"id,omitempty"`
	Channel string   `json:"channel,omitempty"`
	Problem *Problem `json:"problem,omitempty"`
}
