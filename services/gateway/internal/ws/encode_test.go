package ws_test

import (
	"bytes"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEncode(t *testing.T) {
	text := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	for _, c := range []struct {
		name    string
		op      ws.Opcode
		payload int
		head    []byte
	}{
		{"empty", ws.Text, 0, []byte{0x81, 0}},
		{"short", ws.Text, 125, []byte{0x81, 125}},
		{"two bytes of length", ws.Text, 126, []byte{0x81, 126, 0, 126}},
		{"their end", ws.Text, 65535, []byte{0x81, 126, 0xff, 0xff}},
		{"eight bytes of length", ws.Text, 65536, []byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
		{"binary", ws.Binary, 3, []byte{0x82, 3}},
		{"ping", ws.Ping, 0, []byte{0x89, 0}},
		{"pong", ws.Pong, 2, []byte{0x8a, 2}},
	} {
		got, want := ws.Encode(c.op, text(c.payload)), append(c.head, text(c.payload)...)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got % x… (%d bytes), want % x… (%d bytes)", c.name, got[:2], len(got), want[:2], len(want))
		}
		if got := ws.AppendFrame([]byte("before"), c.op, text(c.payload)); !bytes.Equal(got,
			append([]byte("before"), want...)) {
			t.Errorf("%s, appended: got % x… (%d bytes)", c.name, got[:8], len(got))
		}
	}
}

func TestEncodeClose(t *testing.T) {
	if got, want := ws.EncodeClose(4000, "slow-consumer"), "\x88\x0f\x0f\xa0slow-consumer"; string(got) != want {
		t.Errorf("with a reason: got %q, want %q", got, want)
	}
	if got, want := ws.EncodeClose(0, "none"), "\x88\x00"; string(got) != want {
		t.Errorf("without a code: got %q, want %q", got, want)
	}
	for _, code := range proto.CloseCodes() {
		if n := len(ws.EncodeClose(uint16(code), code.String())); n > 127 {
			t.Errorf("%s has %d bytes; a control frame has at most 125 of payload", code, n)
		}
	}
}

func TestCut(t *testing.T) {
	var all []byte
	sizes := []int{0, 1, 125, 126, 0xffff, 0x10000, 3}
	for i, n := range sizes {
		all = ws.AppendFrame(all, ws.Text+ws.Opcode(i%2), bytes.Repeat([]byte{byte(i)}, n))
	}
	for i, n := range sizes {
		op, payload, rest := ws.Cut(all)
		if op != ws.Text+ws.Opcode(i%2) || !bytes.Equal(payload, bytes.Repeat([]byte{byte(i)}, n)) {
			t.Errorf("frame %d: got opcode %d and %d bytes, want %d", i, op, len(payload), n)
		}
		all = rest
	}
	if len(all) != 0 {
		t.Errorf("%d bytes are left", len(all))
	}
}
