package ws

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
)

// Decoder decodes what one client sends (RFC 6455 section 5.2). Between whole
// messages it holds no memory beyond itself. It is not safe for concurrent use.
type Decoder struct {
	partial *partial // nil: no frame and no message is incomplete

	// MaxMessageBytes bounds one message, as it was sent; 0: proto.MaxFrameBytes.
	MaxMessageBytes int32

	open       bool   // a message has begun, and its last fragment has not come
	op         Opcode // of the message that is open, or was the last: Text or Binary
	compressed bool   // that message is compressed

	// Inflates says that permessage-deflate was negotiated: the client may
	// compress messages.
	Inflates bool
}

// partial is what has come of a frame and of a message that are incomplete.
type partial struct {
	frame   []byte // the beginning of a frame
	message []byte // the payloads of the message's fragments so far
}

// Frame is one frame, unmasked. Payload is valid during the call of handle only.
type Frame struct {
	Op         Opcode
	Fin        bool // it is the last fragment of its message, or a control frame
	Compressed bool // it is the first fragment of a compressed message
	Payload    []byte
}

// Message is one whole message.
type Message struct {
	Payload    []byte // in memory of its own; if Compressed, see Inflate
	Op         Opcode // Text or Binary
	Compressed bool
}

// Decode calls handle with each frame in b, and keeps the beginning of a frame
// that is incomplete. It stops when handle returns more == false. b is changed:
// payloads are unmasked in place. The returned code says how the client broke
// the protocol; 0: it did not. After a code, or after more == false, the Decoder
// must not be used again.
func (d *Decoder) Decode(b []byte, handle func(Frame) (more bool, code proto.CloseCode)) proto.CloseCode {
	var begun []byte
	if d.partial != nil {
		begun = d.partial.frame
	}
	if len(begun) > 0 {
		b = append(begun, b...)
	}
	rest := b
	for len(rest) > 0 {
		f, n, code := d.next(rest)
		if code != 0 {
			return code
		}
		if n == 0 {
			break
		}
		rest = rest[n:]
		if more, code := handle(f); !more {
			d.partial = nil
			return code
		}
	}
	if len(rest) > 0 && (len(begun) == 0 || len(rest) < len(b)) {
		rest = slices.Clone(rest) // b is the caller's, or holds frames that are done with
	}
	d.keep(rest, d.fragments())
	return 0
}

// keep records what is incomplete; message nil: no message is.
func (d *Decoder) keep(frame, message []byte) {
	switch {
	case len(frame) == 0 && message == nil:
		d.partial = nil
	case d.partial == nil:
		d.partial = &partial{frame, message}
	default:
		d.partial.frame, d.partial.message = frame, message
	}
}

func (d *Decoder) fragments() []byte {
	if d.partial == nil {
		return nil
	}
	return d.partial.message
}

// next decodes the first frame of b, which is n bytes long; n is 0 if the frame
// is incomplete. An error is reported as soon as the header shows it, so that
// nobody waits for a payload that is refused anyway.
func (d *Decoder) next(b []byte) (f Frame, n int, code proto.CloseCode) {
	if code := d.checkFirst(b[0]); code != 0 || len(b) < 2 {
		return f, 0, code
	}
	f.Op, f.Fin, f.Compressed = Opcode(b[0]&opcodeMask), b[0]&finBit != 0, b[0]&rsv1 != 0
	control := f.Op >= Close
	size := uint64(b[1] &^ maskBit)
	head := 2
	if b[1]&maskBit == 0 || control && size > maxControl {
		return f, 0, proto.CloseProtocolError
	}
	switch size {
	case 126:
		if head = 4; len(b) < head {
			return f, 0, 0
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if head = 10; len(b) < head {
			return f, 0, 0
		}
		size = binary.BigEndian.Uint64(b[2:])
	}
	if !control && size > uint64(d.limit()-len(d.fragments())) {
		return f, 0, proto.CloseTooBig
	}
	end := head + 4 + int(size)
	if len(b) < end {
		return f, 0, 0
	}
	f.Payload = b[head+4 : end]
	unmask(f.Payload, [4]byte(b[head:]))
	return f, end, 0
}

func (d *Decoder) limit() int {
	if d.MaxMessageBytes > 0 {
		return int(d.MaxMessageBytes)
	}
	return proto.MaxFrameBytes
}

// checkFirst checks a frame's first byte: reserved bits, opcode, and whether a
// frame of this kind may come now.
func (d *Decoder) checkFirst(b byte) proto.CloseCode {
	op := Opcode(b & opcodeMask)
	begins := op == Text || op == Binary
	switch {
	case b&reservedBits != 0 && (b&reservedBits != rsv1 || !d.Inflates || !begins):
		// Only permessage-deflate gives a reserved bit a meaning: rsv1, on the first frame of a message.
	case op == Continuation && d.open, begins && !d.open:
		return 0
	case b&finBit != 0 && (op == Close || op == Ping || op == Pong):
		return 0
	}
	return proto.CloseProtocolError
}

func unmask(b []byte, key [4]byte) {
	for ; len(b) >= 4; b = b[4:] {
		b[0] ^= key[0]
		b[1] ^= key[1]
		b[2] ^= key[2]
		b[3] ^= key[3]
	}
	for i := range b {
		b[i] ^= key[i]
	}
}

// Message adds a data frame to the message that it belongs to. It returns the
// message when that is whole.
func (d *Decoder) Message(f Frame) (m Message, whole bool) {
	if f.Op != Continuation {
		d.op, d.compressed = f.Op, f.Compressed
	}
	payload := append(d.fragments(), f.Payload...)
	if d.open = !f.Fin; d.open {
		d.keep(nil, payload)
		return Message{}, false
	}
	d.keep(nil, nil)
	return Message{Payload: payload, Op: d.op, Compressed: d.compressed}, true
}

// Skip discards a data frame and what came of its message before.
func (d *Decoder) Skip(f Frame) {
	d.open = !f.Fin
	d.keep(nil, nil)
}

// CloseCode returns the code in the payload of a client's close frame; 0: it has
// none. ok is false if the payload breaks RFC 6455 sections 5.5.1 and 7.4.
func CloseCode(payload []byte) (code uint16, ok bool) {
	if len(payload) == 0 {
		return 0, true
	}
	if len(payload) == 1 || !utf8.Valid(payload[2:]) {
		return 0, false
	}
	code = binary.BigEndian.Uint16(payload)
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return code, true
	}
	return 0, false
}
