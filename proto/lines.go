package proto

import (
	"bytes"
	"math"
	"time"
)

// Lines goes through the messages of a pack, in order:
//
//	for lines := proto.ReadPack(body); lines.Next(); {
//		if wanted(lines.Channel()) {
//			deliver(lines.Place(), lines.Message())
//		}
//	}
//
// It allocates nothing, and looks at no more of a line than it is asked for.
// What its methods return is the pack's memory: shared, never to be changed.
type Lines struct {
	rest  []byte // of the body
	place int    // of the current line

	line    []byte // the current one, without its end
	begin   int    // where it begins in the body
	channel []byte // empty: the line is none of Herald's
	tab     int    // where the private part begins in line; 0: not looked for yet

	// The private part of the first line, which later ones refer to.
	accepted      int64
	source, trace []byte

	single *single // what is read is no pack, but a message that somebody published by himself
}

// single is a message that was published to the subject of its channel.
type single struct {
	private Private
	done    bool
}

// ReadPack begins to read the body of a pack.
func ReadPack(body []byte) Lines { return Lines{rest: body, place: -1} }

// OneMessage reads a message that was published to the subject of its channel,
// not as a pack, as if it were a pack of one.
func OneMessage(channel string, message []byte, private Private) Lines {
	return Lines{
		place: -1, line: message, channel: []byte(channel), tab: len(message), single: &single{private: private},
		accepted: micros(private.Accepted), source: []byte(private.Source), trace: []byte(private.Traceparent),
	}
}

// ReadLine reads the line at a place of a pack by itself, without the pack. accepted is
// when the pack's first message was accepted, as Accepted tells it; its source and trace
// context are not known.
func ReadLine(line []byte, place int, accepted int64) Lines {
	l := Lines{place: place, accepted: accepted}
	l.stand(line)
	if place == 0 {
		l.accepted = l.number('a')
	}
	return l
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Next goes to the next message. It reports false after the last one, and
// after MaxPackMessages: no id could tell further ones apart.
func (l *Lines) Next() bool {
	if l.single != nil {
		if l.single.done {
			return false
		}
		l.single.done = true
		l.place = 0
		return true
	}
	if len(l.rest) == 0 || l.place == MaxPackMessages-1 {
		return false
	}
	if l.place++; l.place > 0 {
		l.begin += len(l.line) + 1
	}
	line := l.rest
	if end := bytes.IndexByte(l.rest, '\n'); end >= 0 {
		line, l.rest = l.rest[:end], l.rest[end+1:]
	} else {
		l.rest = nil
	}
	l.stand(line)
	if l.place == 0 {
		l.accepted = l.number('a')
		l.source, _ = l.field('s')
		l.trace, _ = l.field('t')
	}
	return true
}

// stand makes a line the current one.
func (l *Lines) stand(line []byte) {
	l.line, l.channel, l.tab = line, nil, 0
	if len(line) > len(beforeChannel) && string(line[:len(beforeChannel)]) == beforeChannel {
		if n := bytes.IndexByte(line[len(beforeChannel):], '"'); n > 0 {
			l.channel = line[len(beforeChannel) : len(beforeChannel)+n]
		}
	}
}

// Text is a copy of the whole body, for In; empty where what is read is no pack. It must
// be called before Next.
func (l *Lines) Text() string { return string(l.rest) }

// In returns the current line, and its channel, as parts of what Text has returned.
func (l *Lines) In(text string) (line, channel string) {
	line = text[l.begin : l.begin+len(l.line)]
	return line, line[len(beforeChannel) : len(beforeChannel)+len(l.channel)]
}

// Place is the place in the pack of the current message, from 0.
func (l *Lines) Place() int { return l.place }

// Channel is the channel of the current message. It is empty where the line is
// none that Herald wrote; only somebody else who may publish packs can have.
func (l *Lines) Channel() []byte { return l.channel }

// Message is what subscribers get of the current message, without the id. It
// is nil where the line is none that Herald wrote. Whether it is JSON is not
// looked at.
func (l *Lines) Message() []byte {
	m := l.line[:l.findTab()]
	if len(l.channel) == 0 || m[len(m)-1] != '}' {
		return nil
	}
	return m
}

// Raw is the current line as it is, for one that is none of Herald's.
func (l *Lines) Raw() []byte { return l.line }

// Expired reports whether the current message was to be kept until now at
// most; now is Unix time in milliseconds.
func (l *Lines) Expired(now int64) bool {
	expires := l.Expires()
	return expires != 0 && expires <= now
}

// Expires is until when the current message is kept, Unix time in
// milliseconds; 0 is for as long as its pack.
func (l *Lines) Expires() int64 {
	if l.single != nil {
		if l.single.private.Expires.IsZero() {
			return 0
		}
		return l.single.private.Expires.UnixMilli()
	}
	private := l.private()
	if len(private) == 0 || private[0] != 'x' { // it is the first field
		return 0
	}
	return decimal(fieldValue(private[1:]))
}

// Accepted is when ingest accepted the current message, Unix time in
// microseconds; 0 if unknown.
func (l *Lines) Accepted() int64 {
	if l.place == 0 {
		return l.accepted
	}
	if l.accepted == 0 {
		return 0
	}
	return l.accepted + l.number('a')
}

// Source is the IP address of the current message's publisher; empty if
// unknown.
func (l *Lines) Source() []byte {
	if own, ok := l.field('s'); ok {
		return own
	}
	return l.source
}

// Traceparent is the trace context of the current message; empty without.
func (l *Lines) Traceparent() []byte {
	if own, ok := l.field('t'); ok {
		return own
	}
	return l.trace
}

// Except is the connection that does not get the current message; empty: none.
func (l *Lines) Except() []byte {
	if l.single != nil {
		return []byte(l.single.private.Except)
	}
	v, _ := l.field('e')
	return v
}

// private is the private part of the current line.
func (l *Lines) private() []byte {
	if l.single != nil {
		return nil
	}
	if tab := l.findTab(); tab < len(l.line) {
		return l.line[tab+1:]
	}
	return nil
}

// findTab finds the last tab of the line: there may be others in the data,
// none in the private part. Without one the line ends there.
func (l *Lines) findTab() int {
	if l.tab == 0 {
		if l.tab = bytes.LastIndexByte(l.line, '\t'); l.tab < 0 {
			l.tab = len(l.line)
		}
	}
	return l.tab
}

// field is the value of a field of the current line's own private part.
func (l *Lines) field(name byte) (v []byte, ok bool) {
	for rest := l.private(); len(rest) > 0; {
		v = fieldValue(rest[1:])
		if rest[0] == name {
			return v, true
		}
		rest = rest[1+len(v):]
		if len(rest) > 0 {
			rest = rest[1:] // the space
		}
	}
	return nil, false
}

func (l *Lines) number(name byte) int64 {
	v, _ := l.field(name)
	return decimal(v)
}

// fieldValue is what a field has up to the next space.
func fieldValue(b []byte) []byte {
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i]
	}
	return b
}

// decimal reads what strconv.AppendInt wrote; anything else is 0.
func decimal(b []byte) int64 {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' || n > math.MaxInt64/10-1 {
			return 0
		}
		n = 10*n + int64(c-'0')
	}
	if negative {
		return -n
	}
	return n
}
