package conn

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
)

// parser cuts what a client sends into frames (RFC 6455 section 5.2), however
// it comes in pieces. It keeps nothing between whole messages.
type parser struct {
	kept   *kept // nil: nothing
	open   bool  // a message has begun, and its last fragment has not come
	binary bool  // the message that is open, or came last, is
	most   int32 // bytes of a message; 0: proto.MaxFrameBytes

	inflates   bool // fixed; the client may compress
	compressed bool // the message that is open, or came last, is
}

// kept is what is not whole yet.
type kept struct {
	frame   []byte // the beginning of one
	message []byte // the fragments of one so far
}

// inFrame is one frame, unmasked.
type inFrame struct {
	op      byte // without FIN
	fin     bool
	rsv1    bool // it begins a message that is compressed
	payload []byte
}

// Opcodes without FIN.
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opPong         = 0x80 | 0xa
	opMask         = 0x0f
	finBit         = 0x80
	rsv1           = 0x40 // RFC 7692 section 6
	reservedBits   = 0x70
	maskBit        = 0x80
	maxControl     = 125 // bytes of payload
)

// take hands what came to f, frame by frame, until f says stop. Payloads are
// valid during the call only. b is changed. The code is why the client must
// leave; 0: it did nothing wrong.
func (p *parser) take(b []byte, f func(inFrame) (goOn bool, code proto.CloseCode)) proto.CloseCode {
	var begun []byte
	if p.kept != nil {
		begun = p.kept.frame
	}
	if len(begun) > 0 {
		b = append(begun, b...)
	}
	rest := b
	for len(rest) > 0 {
		frame, n, code := p.cut(rest)
		if code != 0 {
			return code
		}
		if n == 0 {
			break
		}
		rest = rest[n:]
		if goOn, code := f(frame); !goOn {
			p.kept = nil
			return code
		}
	}
	if len(rest) > 0 && (len(begun) == 0 || len(rest) < len(b)) {
		rest = slices.Clone(rest) // the rest of it is not kept, or is somebody else's
	}
	p.keep(rest, p.fragments())
	return 0
}

func (p *parser) keep(frame, message []byte) {
	switch {
	case len(frame) == 0 && message == nil:
		p.kept = nil
	case p.kept == nil:
		p.kept = &kept{frame, message}
	default:
		p.kept.frame, p.kept.message = frame, message
	}
}

func (p *parser) fragments() []byte {
	if p.kept == nil {
		return nil
	}
	return p.kept.message
}

// cut reads the first frame of b. n is its length; 0: it is not whole yet. What
// is wrong shows as soon as the header does.
func (p *parser) cut(b []byte) (f inFrame, n int, code proto.CloseCode) {
	if code := p.checkFirst(b[0]); code != 0 || len(b) < 2 {
		return f, 0, code
	}
	f.op, f.fin, f.rsv1 = b[0]&opMask, b[0]&finBit != 0, b[0]&rsv1 != 0
	control := f.op >= 0x8
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
	if !control && size > uint64(p.limit()-len(p.fragments())) {
		return f, 0, proto.CloseTooBig
	}
	if end := head + 4 + int(size); len(b) < end {
		return f, 0, 0
	} else {
		f.payload = b[head+4 : end]
		unmask(f.payload, [4]byte(b[head:]))
		return f, end, 0
	}
}

func (p *parser) limit() int {
	if p.most > 0 {
		return int(p.most)
	}
	return proto.MaxFrameBytes
}

func (p *parser) checkFirst(b byte) proto.CloseCode {
	fin := b&finBit != 0
	switch op := b & opMask; {
	case b&reservedBits != 0 && (b&reservedBits != rsv1 || !p.inflates || op != opText&opMask && op != opBinary):
		// No extension that was negotiated means this bit, or has it here.
	case op == opContinuation && p.open, op == opText&opMask && !p.open, op == opBinary && !p.open:
		return 0
	case fin && (op == opClose&opMask || op == opPing&opMask || op == opPong&opMask):
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

// text takes a data frame in and returns the message once it is whole: memory
// of its own, as it came, which may be compressed.
func (p *parser) text(f inFrame) (message []byte, whole bool) {
	if f.op != opContinuation {
		p.binary = f.op == opBinary
		p.compressed = f.rsv1
	}
	message = append(p.fragments(), f.payload...)
	if p.open = !f.fin; p.open {
		p.keep(nil, message)
		return nil, false
	}
	p.keep(nil, nil)
	return message, true
}

// skip takes a data frame in of which nobody wants to hear.
func (p *parser) skip(f inFrame) {
	p.open = !f.fin
	p.keep(nil, nil)
}

// goodbyeCode is the code of a client's close frame; 0: it has none. ok is
// false for one that breaks RFC 6455 sections 5.5.1 and 7.4.
func goodbyeCode(payload []byte) (code uint16, ok bool) {
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
