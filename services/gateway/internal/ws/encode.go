package ws

import "encoding/binary"

// Opcode is what a frame is (RFC 6455 section 5.2).
type Opcode byte

// All opcodes that are defined. Those from Close on are control frames.
const (
	Continuation Opcode = 0x0 // a further fragment of a message
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xa
)

// Bits of a frame's first byte, beside the opcode, and of its second, beside
// the length.
const (
	finBit       = 0x80 // the last fragment, or the only one
	rsv1         = 0x40 // the message is compressed (RFC 7692 section 6)
	reservedBits = 0x70
	opcodeMask   = 0x0f
	maskBit      = 0x80
)

// maxControl is how many bytes of payload a control frame may have (RFC 6455
// section 5.5).
const maxControl = 125

// Encode returns payload as one whole, unmasked frame: a header of 2, 4 or 10
// bytes and the payload.
func Encode(op Opcode, payload []byte) []byte {
	return AppendFrame(make([]byte, 0, len(payload)+10), op, payload)
}

// AppendFrame appends what Encode returns to b.
func AppendFrame(b []byte, op Opcode, payload []byte) []byte {
	return appendFrame(b, finBit|byte(op), payload)
}

func appendFrame(b []byte, first byte, payload []byte) []byte {
	switch n := len(payload); {
	case n < 126:
		b = append(b, first, byte(n))
	case n <= 0xffff:
		b = append(b, first, 126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, first, 127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(b, payload...)
}

// Cut cuts the first frame off b, which is one or more whole frames as Encode makes
// them.
func Cut(b []byte) (op Opcode, payload, rest []byte) {
	head, size := 2, int(b[1])
	switch size {
	case 126:
		head, size = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		head, size = 10, int(binary.BigEndian.Uint64(b[2:]))
	}
	return Opcode(b[0] & opcodeMask), b[head : head+size], b[head+size:]
}

// EncodeClose returns a close frame (RFC 6455 section 5.5.1). Code 0 means none,
// and then there is no reason either. A reason has at most 123 bytes of UTF-8.
func EncodeClose(code uint16, reason string) []byte {
	if code == 0 {
		return Encode(Close, nil)
	}
	return Encode(Close, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}
