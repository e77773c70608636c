package ws_test

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/gateway/internal/wstest"
)

// First bytes of whole frames.
const (
	opText   = wstest.Fin | byte(ws.Text)
	opBinary = wstest.Fin | byte(ws.Binary)
	opClose  = wstest.Fin | byte(ws.Close)
	opPing   = wstest.Fin | byte(ws.Ping)
	opPong   = wstest.Fin | byte(ws.Pong)
)

var masked = wstest.Masked

// decoded is all that a Decoder says about some bytes that come in pieces.
func decoded(pieces ...[]byte) (log []string, code proto.CloseCode) {
	var d ws.Decoder
	stopped := false
	for _, piece := range pieces {
		if stopped || code != 0 {
			break
		}
		code = d.Decode(slices.Clone(piece), func(f ws.Frame) (bool, proto.CloseCode) {
			switch f.Op {
			case ws.Text, ws.Continuation:
				m, whole := d.Message(f)
				log = append(log, fmt.Sprintf("%d %t %x", m.Op, whole, m.Payload))
			case ws.Binary:
				d.Skip(f)
				log = append(log, "binary")
			case ws.Close:
				code, ok := ws.CloseCode(f.Payload)
				log = append(log, fmt.Sprintf("close %d %t", code, ok))
				stopped = true
				return false, 0
			default:
				log = append(log, fmt.Sprintf("control %x %x", f.Op, f.Payload))
			}
			return true, 0
		})
	}
	return log, code
}

// However a client's bytes are cut into pieces, they mean the same.
func TestDecodeInPieces(t *testing.T) {
	b := slices.Concat(
		masked(opText, []byte("hello")),
		masked(byte(ws.Text), []byte("a")), masked(opPing, []byte("p")), masked(byte(ws.Continuation), []byte("b")),
		masked(wstest.Fin, bytes.Repeat([]byte("c"), 200)),
		masked(opPong, nil), masked(opText, nil), masked(opClose, []byte("\x03\xe8bye")),
	)
	want, code := decoded(b)
	if len(want) != 8 || code != 0 {
		t.Fatalf("got %q, %v", want, code)
	}
	for i := range b {
		for j := i; j < len(b); j++ {
			if got, code := decoded(b[:i], b[i:j], b[j:]); !slices.Equal(got, want) || code != 0 {
				t.Fatalf("cut at %d and %d: got %q, %v; want %q", i, j, got, code, want)
			}
		}
	}
	single := make([][]byte, len(b))
	for i := range b {
		single[i] = b[i : i+1]
	}
	if got, code := decoded(single...); !slices.Equal(got, want) || code != 0 {
		t.Fatalf("byte by byte: got %q, %v; want %q", got, code, want)
	}
}

// Between whole messages a Decoder holds no memory for what came.
func TestDecoderKeepsNothing(t *testing.T) {
	const decoders, size = 1000, 5000
	var before, after runtime.MemStats
	all := make([]ws.Decoder, decoders)
	whole := 0
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range all {
		d := &all[i]
		message := func(f ws.Frame) (bool, proto.CloseCode) {
			if _, ok := d.Message(f); ok {
				whole++
			}
			return true, 0
		}
		b := masked(opText, make([]byte, size))
		if code := d.Decode(b[:100], message); code != 0 {
			t.Fatal(code)
		}
		if code := d.Decode(b[100:], message); code != 0 {
			t.Fatal(code)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int(after.HeapAlloc) - int(before.HeapAlloc); whole != decoders || grown > decoders*size/10 {
		t.Errorf("%d of %d messages, after which %d bytes are held", whole, decoders, grown)
	}
	runtime.KeepAlive(all)
}

// A frame that the client must not send is refused as soon as its header is
// there, with the code that says why.
func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		want proto.CloseCode
	}{
		{"unmasked", []byte("\x81\x02"), proto.CloseProtocolError},
		{"a reserved bit", []byte{opText | 0x20}, proto.CloseProtocolError},
		{"compressed, not negotiated", []byte{opText | wstest.RSV1}, proto.CloseProtocolError},
		{"an unknown opcode", []byte{0x83}, proto.CloseProtocolError},
		{"a fragmented ping", []byte{byte(ws.Ping)}, proto.CloseProtocolError},
		{"a long ping", []byte{opPing, 0xfe}, proto.CloseProtocolError},
		{"a continuation of nothing", []byte{wstest.Fin}, proto.CloseProtocolError},
		{"a text within a message", append(masked(byte(ws.Text), nil), opText), proto.CloseProtocolError},
		{"a byte too long", masked(opText, make([]byte, proto.MaxFrameBytes+1))[:4], proto.CloseTooBig},
		{"a fragment too much", append(masked(byte(ws.Binary), make([]byte, proto.MaxFrameBytes)), wstest.Fin, 0x81),
			proto.CloseTooBig},
		{"a negative length", []byte{opBinary, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1}, proto.CloseTooBig},
	} {
		var d ws.Decoder
		code := d.Decode(c.in, func(f ws.Frame) (bool, proto.CloseCode) { d.Message(f); return true, 0 })
		if code != c.want {
			t.Errorf("%s: got %v, want %v", c.name, code, c.want)
		}
	}
}

// Whatever comes, in whatever pieces, means the same and takes no more memory
// than one message may have.
func FuzzDecoder(f *testing.F) {
	f.Add(masked(opText, []byte("hello")), byte(1))
	f.Add(slices.Concat(masked(byte(ws.Text), []byte("a")), masked(opPing, nil), masked(wstest.Fin, []byte("b"))),
		byte(3))
	f.Add([]byte("\x81\x02hi"), byte(1))
	f.Add([]byte{opText, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, byte(7))
	f.Add(masked(opClose, []byte{3}), byte(2))
	f.Fuzz(func(t *testing.T, b []byte, step byte) {
		want, code := decoded(b)
		var pieces [][]byte
		for rest := b; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		if got, gotCode := decoded(pieces...); !slices.Equal(got, want) || gotCode != code {
			t.Fatalf("in pieces of %d: got %q, %v; want %q, %v", int(step)+1, got, gotCode, want, code)
		}
	})
}
