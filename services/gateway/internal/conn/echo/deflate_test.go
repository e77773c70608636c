package main

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/gateway/internal/wstest"
)

const rsv1 = 0x40

// message reads one frame and returns its message.
func (p *peer) message() (op byte, compressed bool, b []byte) {
	p.t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(p.br, head); err != nil || head[0]&fin == 0 {
		p.t.Fatalf("got % x, %v; want a whole frame", head, err)
	}
	n := int(head[1])
	switch n {
	case 126:
		var size [2]byte
		_, _ = io.ReadFull(p.br, size[:])
		n = int(binary.BigEndian.Uint16(size[:]))
	case 127:
		var size [8]byte
		_, _ = io.ReadFull(p.br, size[:])
		n = int(binary.BigEndian.Uint64(size[:]))
	}
	b = make([]byte, n)
	if _, err := io.ReadFull(p.br, b); err != nil {
		p.t.Fatal(err)
	}
	if compressed = head[0]&rsv1 != 0; compressed {
		r := flate.NewReader(io.MultiReader(bytes.NewReader(b),
			strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
		var err error
		if b, err = io.ReadAll(r); err != nil {
			p.t.Fatalf("inflate %d bytes: %v", n, err)
		}
	}
	return head[0] & 0xf, compressed, b
}

// What Autobahn's cases 12 and 13 are about: messages of every size and kind, compressed
// in one frame or in fragments, come back as they were, and compressed if that is worth it.
func TestDeflate(t *testing.T) {
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(i*i>>3 ^ i*31)
	}
	for form, args := range map[string][]string{"parked": nil, "blocking": {"-blocking"}, "TLS": {"-tls"}} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			u := start(t, args...)
			for _, offer := range []string{"permessage-deflate",
				"permessage-deflate; client_max_window_bits; server_max_window_bits=15"} {
				p := dialOffering(t, u, offer, true)
				for _, n := range []int{0, 16, 64, 256, 1024, 4096, 8192, 32768, 131072, 1 << 20} {
					for op, payload := range map[byte]string{text: string(wstest.Document(n)),
						bin: strings.Repeat(string(noise), 1+n/len(noise))} {
						in := wstest.Deflate(payload)
						frames := out(fin|rsv1|op, in)
						if n%3 == 1 { // in three fragments
							frames = slices.Concat(out(rsv1|op, in[:len(in)/3]),
								out(continuation, in[len(in)/3:len(in)/2]), out(fin|continuation, in[len(in)/2:]))
						}
						if _, err := p.nc.Write(frames); err != nil {
							t.Fatal(err)
						}
						if gotOp, compressed, got := p.message(); gotOp != op || string(got) != payload || !compressed {
							t.Fatalf("opcode %d of %d bytes: got opcode %d of %d, compressed %t", op, len(payload),
								gotOp, len(got), compressed)
						}
					}
				}
				p.exchange(out(fin|text, "x"), 0, in(fin|text, "x")) // plain, and too small to be worth it
				p.exchange(out(fin|closing, coded(1000, "")), 0, in(fin|closing, coded(1000, "")))
				p.end(false)
			}
			dialOffering(t, u, "permessage-deflate; server_max_window_bits=9", false) // cannot be honoured
			p := dialOffering(t, u, "permessage-deflate", true)
			if _, err := p.nc.Write(out(fin|rsv1|text, wstest.Deflate(strings.Repeat("x", maxMessage+1)))); err != nil {
				t.Fatal(err)
			}
			if code := p.goodbye(); code != 1009 {
				t.Errorf("a message that inflates to more than %d bytes: got code %d, want 1009", maxMessage, code)
			}
		})
	}
}
