package conn

import (
	"encoding/binary"

	"github.com/herald-push/herald/proto"
)

// Opcodes of RFC 6455 section 5.2, with FIN set: the gateway never fragments.
const (
	opText  = 0x80 | 0x1
	opClose = 0x80 | 0x8
	opPing  = 0x80 | 0x9
)

var pingFrame = []byte{opPing, 0}

// TextFrame is payload as one unmasked WebSocket text frame (RFC 6455 section
// 5.2): a header of 2, 4 or 10 bytes and the payload. It is made once per
// message; every connection writes the same bytes.
func TextFrame(payload []byte) []byte { return frame(opText, payload) }

// BinaryFrame is TextFrame for a binary message.
func BinaryFrame(payload []byte) []byte { return frame(finBit|opBinary, payload) }

func frame(op byte, payload []byte) []byte {
	return appendFrame(make([]byte, 0, len(payload)+10), op, payload)
}

func appendFrame(b []byte, op byte, payload []byte) []byte {
	switch n := len(payload); {
	case n < 126:
		b = append(b, op, byte(n))
	case n <= 0xffff:
		b = append(b, op, 126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, op, 127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(b, payload...)
}

// closeFrame is the goodbye: the code and its name (RFC 6455 section 5.5.1).
func closeFrame(code proto.CloseCode) []byte {
	payload := binary.BigEndian.AppendUint16(nil, uint16(code))
	return frame(opClose, append(payload, code.String()...))
}
