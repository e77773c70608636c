package proto

import (
	"bytes"
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
	// Except is the connection that does not get the message. Only dialects set it.
	Except string `json:"-"`
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
	p, ok := quickPublication(b)
	var err error
	if !ok {
		p, err = decodePublication(b)
	}
	if err == nil {
		err = p.checkMembers()
	}
	if err == nil {
		err = fault("/data", checkLength(p.Data, maxBytes)) // the rest of it is checked with b
	}
	if err != nil {
		return Publication{}, err
	}
	p.Data = oneLine(p.Data)
	return p, nil
}

// decodePublication reads any publication. Errors are *FieldError, worded for who sent it. The first fault counts, and
// one of the whole (syntax, depth, a key twice) before one of a member.
func decodePublication(b []byte) (Publication, error) {
	var p Publication
	if !utf8.Valid(b) {
		return p, fault("", fmt.Errorf("%w: it is not UTF-8", ErrData))
	}
	if first := bytes.TrimLeft(b, " \t\r\n"); len(first) == 0 || first[0] != '{' || !json.Valid(b) {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(b, &members); err != nil {
			return p, fault("", jsonError(err))
		}
		return p, fault("", errors.New("a message is a JSON object, this is null"))
	}
	if err := checkSurrogates(b); err != nil {
		return p, err
	}
	// Data may be MaxDepth deep by itself, inside this object it is one deeper.
	// A fault in a member comes after one in the whole: a repeated key must not
	// choose between two members.
	var wrong error
	err := checkNesting(b, MaxDepth+1, func(name, value []byte) {
		if wrong == nil {
			wrong = p.set(name, value)
		}
	})
	if err != nil {
		return p, fault("", err)
	}
	return p, wrong
}

// set decodes one member. name is as it stands in the JSON, between its
// quotes.
func (p *Publication) set(name, value []byte) error {
	if bytes.IndexByte(name, '\\') >= 0 {
		var plain string
		if err := json.Unmarshal(slices.Concat([]byte{'"'}, name, []byte{'"'}), &plain); err != nil {
			return fault("", jsonError(err))
		}
		name = []byte(plain)
	}
	var err error
	switch string(name) {
	case "channel":
		p.Channel, err = text(value)
	case "event":
		p.Event, err = text(value)
	case "id":
		p.ID, err = text(value)
	case "channels":
		var channels []string // not p's own: p would be on the heap for every publication
		if err = json.Unmarshal(value, &channels); err != nil || channels == nil {
			err = errors.New("want an array of strings")
		}
		p.Channels = channels
	case "data":
		p.Data = bytes.Clone(value)
	case "ephemeral":
		if p.Ephemeral = string(value) == "true"; !p.Ephemeral && string(value) != "false" {
			err = errors.New("want true or false")
		}
	case "ttl":
		if p.TTL, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			err = errors.New("want a whole number of seconds")
		}
	default:
		err = fmt.Errorf("unknown member; known are %s", strings.Join(publicationFields, ", "))
	}
	if err == nil {
		return nil
	}
	return fault(Pointer(string(name)), err)
}

// text decodes a string that must not be empty.
func text(value []byte) (string, error) {
	switch {
	case value[0] != '"':
		return "", errors.New("want a string")
	case len(value) == 2:
		return "", errors.New("it is empty")
	case bytes.IndexByte(value, '\\') < 0:
		return string(value[1 : len(value)-1]), nil
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err
}

// fault makes err the fault of a member, unless it is nil.
func fault(pointer string, err error) error {
	if err == nil {
		return nil
	}
	return &FieldError{Field: pointer, Err: err}
}

// Pointer is the JSON pointer (RFC 6901) to a member of an object.
func Pointer(member string) string { return "/" + pointerEscape.Replace(member) }

// pointerEscape makes a member's name a token of a JSON pointer (section 3).
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

// Check validates a publication, fills in the default event, and makes the
// data one line. Errors are *FieldError.
func (p *Publication) Check(maxBytes int) error {
	if err := p.checkMembers(); err != nil {
		return err
	}
	if err := CheckData(p.Data, maxBytes); err != nil {
		var inside *FieldError
		if errors.As(err, &inside) {
			return fault("/data"+inside.Field, inside.Err)
		}
		return fault("/data", err)
	}
	p.Data = oneLine(p.Data)
	return nil
}

// checkMembers is Check without the data's own rules.
func (p *Publication) checkMembers() error {
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
	var seen map[string]bool
	if len(p.Channels) > 1 {
		seen = make(map[string]bool, len(p.Channels))
	}
	for i, ch := range p.Channels {
		err := CheckChannel(ch)
		if err == nil && seen[ch] {
			err = fmt.Errorf("%q is named twice", ch)
		}
		if err != nil {
			return &FieldError{"/channels/" + strconv.Itoa(i), err}
		}
		if seen != nil {
			seen[ch] = true
		}
	}
	if p.Event == "" {
		p.Event = DefaultEvent
	}
	if err := CheckEvent(p.Event); err != nil {
		return &FieldError{"/event", err}
	}
	if p.ID == "" {
		return nil
	}
	return fault("/id", CheckKey(p.ID))
}

// oneLine makes valid JSON one line, so that every message is one: of a log,
// of NDJSON, of an event stream. Pretty-printed JSON loses its white space,
// any other stays as it is.
func oneLine(data []byte) []byte {
	if !bytes.ContainsAny(data, "\r\n") {
		return data
	}
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return data // not valid: CheckData has said so
	}
	return b.Bytes()
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

// AppendTo appends the result as JSON, as Marshal writes it. It stands on the
// hot path of ingest: what is stored is written without reflection.
func (r *Result) AppendTo(b []byte) []byte {
	if r.Problem != nil || !plain(r.Status) || !plain(r.ID) || !plain(r.Channel) {
		full, err := Marshal(*r) // not r, which would then be on the heap every time
		if err != nil {
			panic(fmt.Sprintf("proto: a result does not marshal: %v", err)) // it has nothing that could fail
		}
		return append(b, full...)
	}
	b = append(b, '{')
	if r.Line != 0 {
		b = append(b, `"line":`...)
		b = strconv.AppendInt(b, int64(r.Line), 10)
		b = append(b, ',')
	}
	b = append(b, `"status":"`...)
	b = append(b, r.Status...)
	if r.ID != "" {
		b = append(b, `","id":"`...)
		b = append(b, r.ID...)
	}
	if r.Channel != "" {
		b = append(b, `","channel":"`...)
		b = append(b, r.Channel...)
	}
	return append(b, `"}`...)
}

// plain reports whether s stands in JSON as it is.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return true
}
