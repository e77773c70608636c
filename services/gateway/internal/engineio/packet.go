package engineio

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Version is a revision of the protocol.
type Version uint8

// The revisions that are spoken: EIO=3 (Socket.IO 1 and 2) and EIO=4 (3 and later).
const (
	V3 Version = 3
	V4 Version = 4
)

// Types of packets, as they stand in text.
const (
	Open    = '0'
	Close   = '1'
	Ping    = '2'
	Pong    = '3'
	Message = '4'
	Upgrade = '5'
	Noop    = '6'
)

// ErrPacket is wrapped by every error of Parse and Split: the client broke the
// protocol, and its session ends.
var ErrPacket = errors.New("invalid Engine.IO packet")

// Packet is what one WebSocket message holds.
type Packet struct {
	Type   byte // Open … Noop
	Binary bool
	Data   []byte
}

// Parse decodes one WebSocket message. Data is part of b.
//
//	V4   4hello                   text:   a type and its data
//	     01 02 03                 binary: a message's data alone
//	V3   04 01 02 03              binary: a type as a number, and its data
func (v Version) Parse(b []byte, binary bool) (Packet, error) {
	switch {
	case binary && v == V4:
		return Packet{Message, true, b}, nil
	case len(b) == 0:
		return Packet{}, fmt.Errorf("%w: it is empty", ErrPacket)
	case binary && b[0] <= Noop-Open:
		return Packet{Open + b[0], true, b[1:]}, nil
	case !binary && b[0] >= Open && b[0] <= Noop:
		return Packet{b[0], false, b[1:]}, nil
	}
	return Packet{}, fmt.Errorf("%w: there is no type %q", ErrPacket, b[0])
}

// Attachment is binary data as the WebSocket message with which it is sent.
func (v Version) Attachment(data []byte) []byte {
	if v == V3 {
		return append([]byte{Message - Open}, data...)
	}
	return data
}

// separator stands between the packets of a payload in V4 (protocol v4, "HTTP
// long-polling").
const separator = 0x1e

// Split decodes the body of a POST, and calls each with every packet, as the
// WebSocket message that it would be. asBinary is for V3: the body is of the
// content type application/octet-stream. What each is given is part of body, or
// memory of its own. It stops at an error of each.
func (v Version) Split(body []byte, asBinary bool, each func(b []byte, binary bool) error) error {
	switch {
	case v == V4 && asBinary:
		return fmt.Errorf("%w: binary data comes in base64", ErrPacket)
	case asBinary:
		return splitBytes(body, each)
	case !utf8.Valid(body):
		return fmt.Errorf("%w: the payload is not UTF-8", ErrPacket)
	case v == V4:
		for packet := range bytes.SplitSeq(body, []byte{separator}) {
			if err := v.text(packet, each); err != nil {
				return err
			}
		}
		return nil
	}
	return v.splitCounted(body, each)
}

// text decodes one packet of a textual payload.
func (v Version) text(b []byte, each func([]byte, bool) error) error {
	if len(b) == 0 || b[0] != 'b' {
		if _, err := v.Parse(b, false); err != nil {
			return err
		}
		return each(b, false)
	}
	b = b[1:]
	var typ []byte
	if v == V3 {
		if len(b) == 0 || b[0] < Open || b[0] > Noop {
			return fmt.Errorf("%w: a type is missing behind b", ErrPacket)
		}
		typ, b = []byte{b[0] - Open}, b[1:]
	}
	data, err := base64.StdEncoding.AppendDecode(typ, b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPacket, err)
	}
	return each(data, true)
}

// maxDigits bounds a length: no payload comes near it.
const maxDigits = 9

// splitCounted decodes a textual payload of V3: 6:4hello2:4€, where a length counts
// UTF-16 code units, as JavaScript does.
func (v Version) splitCounted(body []byte, each func([]byte, bool) error) error {
	if len(body) == 0 {
		return fmt.Errorf("%w: the payload is empty", ErrPacket)
	}
	for len(body) > 0 {
		digits, _, ok := bytes.Cut(body[:min(len(body), maxDigits+1)], []byte{':'})
		n, err := strconv.ParseUint(string(digits), 10, 32)
		if !ok || err != nil {
			return fmt.Errorf("%w: a payload of revision 3 is LENGTH:PACKET", ErrPacket)
		}
		body = body[len(digits)+1:]
		size, ok := units(body, int(n))
		if !ok {
			return fmt.Errorf("%w: a packet has %d characters less than its length says", ErrPacket, n)
		}
		if size > 0 {
			if err := v.text(body[:size], each); err != nil {
				return err
			}
		}
		body = body[size:]
	}
	return nil
}

// units returns how many bytes of b are n UTF-16 code units.
func units(b []byte, n int) (size int, ok bool) {
	for n > 0 && size < len(b) {
		r, k := utf8.DecodeRune(b[size:])
		size += k
		n--
		if r > 0xffff {
			n--
		}
	}
	return size, n == 0
}

// countUnits is the number of UTF-16 code units of b.
func countUnits(b []byte) (n int) {
	for len(b) > 0 {
		r, k := utf8.DecodeRune(b)
		b = b[k:]
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// splitBytes decodes a binary payload of V3: for each packet 0 for text or 1 for
// binary, the digits of its length in bytes as numbers, 255, and the packet.
func splitBytes(body []byte, each func([]byte, bool) error) error {
	for len(body) > 0 {
		binary := body[0] == 1
		if body[0] > 1 {
			return fmt.Errorf("%w: a packet begins with 0 or 1", ErrPacket)
		}
		head, n := 1, 0
		for ; head < len(body) && body[head] != 255; head++ {
			if body[head] > 9 || head > maxDigits {
				return fmt.Errorf("%w: a length has digits up to 9, and at most %d", ErrPacket, maxDigits)
			}
			n = n*10 + int(body[head])
		}
		if head == 1 || head == len(body) || n > len(body)-head-1 || n == 0 {
			return fmt.Errorf("%w: a packet is shorter than its length says", ErrPacket)
		}
		packet := body[head+1:][:n]
		body = body[head+1+n:]
		if !binary && !utf8.Valid(packet) {
			return fmt.Errorf("%w: a text packet is not UTF-8", ErrPacket)
		}
		if _, err := V3.Parse(packet, binary); err != nil {
			return err
		}
		if err := each(packet, binary); err != nil {
			return err
		}
	}
	return nil
}

// content is one packet as a WebSocket message.
type content struct {
	data   []byte
	binary bool
}

// join encodes packets as the payload of a response; asBinary reports that it is one
// of bytes. base64Only is for V3: the client asked for text (b64=1).
func (v Version) join(packets []content, base64Only bool) (payload []byte, asBinary bool) {
	if v == V3 && !base64Only {
		for _, p := range packets {
			asBinary = asBinary || p.binary
		}
	}
	for i, p := range packets {
		switch {
		case asBinary:
			payload = appendBytes(payload, p)
		case v == V3:
			packet := p.data
			if p.binary {
				packet = base64.StdEncoding.AppendEncode([]byte{'b', Open + p.data[0]}, p.data[1:])
			}
			payload = strconv.AppendInt(payload, int64(countUnits(packet)), 10)
			payload = append(append(payload, ':'), packet...)
		default:
			if i > 0 {
				payload = append(payload, separator)
			}
			if p.binary {
				payload = base64.StdEncoding.AppendEncode(append(payload, 'b'), p.data)
			} else {
				payload = append(payload, p.data...)
			}
		}
	}
	return payload, asBinary
}

func appendBytes(payload []byte, p content) []byte {
	kind := byte(0)
	if p.binary {
		kind = 1
	}
	payload = append(payload, kind)
	for _, digit := range strconv.Itoa(len(p.data)) {
		payload = append(payload, byte(digit-'0'))
	}
	return append(append(payload, 255), p.data...)
}
