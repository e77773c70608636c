package conn

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/herald-push/herald/proto"
)

// heard is all that a parser says about some bytes that come in pieces.
func heard(pieces ...[]byte) (log []string, code proto.CloseCode) {
	var p parser
	stopped := false
	for _, piece := range pieces {
		if stopped || code != 0 {
			break
		}
		code = p.take(slices.Clone(piece), func(f inFrame) (bool, proto.CloseCode) {
			switch f.op {
			case opText & opMask, opContinuation:
				message, whole := p.text(f)
				log = append(log, fmt.Sprintf("text %t %x", whole, message))
			case opBinary:
				p.open = !f.fin
				log = append(log, "binary")
			case opClose & opMask:
				code, ok := goodbyeCode(f.payload)
				log = append(log, fmt.Sprintf("close %d %t", code, ok))
				stopped = true
				return false, 0
			default:
				log = append(log, fmt.Sprintf("control %x %x", f.op, f.payload))
			}
			return true, 0
		})
	}
	return log, code
}

// However a client's bytes are cut into pieces, they mean the same.
func TestParserInPieces(t *testing.T) {
	b := slices.Concat(
		masked(opText, []byte("hello")),
		masked(opText&^finBit, []byte("a")), masked(opPing, []byte("p")), masked(opContinuation, []byte("b")), masked(finBit, bytes.Repeat([]byte("c"), 200)),
		masked(opPong, nil), masked(opText, nil), masked(opClose, []byte("\x03\xe8bye")),
	)
	want, code := heard(b)
	if len(want) != 8 || code != 0 {
		t.Fatalf("got %q, %v", want, code)
	}
	for i := range b {
		for j := i; j < len(b); j++ {
			if got, code := heard(b[:i], b[i:j], b[j:]); !slices.Equal(got, want) || code != 0 {
				t.Fatalf("cut at %d and %d: got %q, %v; want %q", i, j, got, code, want)
			}
		}
	}
	single := make([][]byte, len(b))
	for i := range b {
		single[i] = b[i : i+1]
	}
	if got, code := heard(single...); !slices.Equal(got, want) || code != 0 {
		t.Fatalf("byte by byte: got %q, %v; want %q", got, code, want)
	}
}

// Between whole messages a connection keeps no memory for what comes in.
func TestParserKeepsNothing(t *testing.T) {
	var p parser
	none := func(f inFrame) (bool, proto.CloseCode) { p.text(f); return true, 0 }
	for _, piece := range [][]byte{masked(opText, make([]byte, 5000))[:100], nil} {
		b := masked(opText, make([]byte, 5000))
		if piece == nil {
			piece = b[100:]
		}
		if code := p.take(piece, none); code != 0 {
			t.Fatal(code)
		}
	}
	if p.kept != nil || p.open {
		t.Errorf("it keeps %+v", p.kept)
	}
}

// Whatever comes, in whatever pieces, means the same and takes no more memory
// than one message may have.
func FuzzParser(f *testing.F) {
	f.Add(masked(opText, []byte("hello")), byte(1))
	f.Add(slices.Concat(masked(opText&^finBit, []byte("a")), masked(opPing, nil), masked(finBit, []byte("b"))), byte(3))
	f.Add([]byte("\x81\x02hi"), byte(1))
	f.Add([]byte{opText, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, byte(7))
	f.Add(masked(opClose, []byte{3}), byte(2))
	f.Fuzz(func(t *testing.T, b []byte, step byte) {
		want, code := heard(b)
		var pieces [][]byte
		for rest := b; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		if got, gotCode := heard(pieces...); !slices.Equal(got, want) || gotCode != code {
			t.Fatalf("in pieces of %d: got %q, %v; want %q, %v", int(step)+1, got, gotCode, want, code)
		}
	})
}
