package conn

import (
	"bytes"
	"compress/flate"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

// Whatever is said to be compressed inflates to what flate makes of it, or to
// nothing; never to more than a message may have.
func FuzzInflate(f *testing.F) {
	f.Add([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00"))
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))
	f.Add([]byte("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"))
	f.Add([]byte(deflate(strings.Repeat("x", proto.MaxFrameBytes+1))))
	f.Add([]byte(deflate(string(document(500)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := slices.Clone(b)
		out, code := inflate(b)
		if !bytes.Equal(b, in) {
			t.Fatal("it changed what it was given")
		}
		want, err := io.ReadAll(io.LimitReader(flate.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader(afterMessage))), proto.MaxFrameBytes+1))
		switch {
		case code == 0 && (err != nil || !bytes.Equal(out, want)):
			t.Fatalf("got %d bytes, want %d, %v", len(out), len(want), err)
		case (code == proto.CloseTooBig) != (err == nil && len(want) > proto.MaxFrameBytes):
			t.Fatalf("got %v for %d bytes, %v", code, len(want), err)
		case code != 0 && code != proto.CloseTooBig && code != proto.CloseInvalidPayload, code != 0 && out != nil:
			t.Fatalf("got %d bytes and %v", len(out), code)
		}
	})
}

// Whatever a client sends that may compress, it ends for a known reason.
func FuzzDeflatingClient(f *testing.F) {
	f.Add(masked(opDeflated, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00")))
	f.Add(slices.Concat(masked(opDeflated&^finBit, []byte("\xf2\x48\xcd")), masked(opPing, nil), masked(finBit, []byte("\xc9\xc9\x07\x00"))))
	f.Add(masked(opDeflated, []byte(deflate(strings.Repeat("x", 1<<20)))))
	f.Add(masked(opDeflated, []byte("{}")))
	s := newServer(f, Config{Deflate: true}, "unix", false) // TCP would run out of ports
	s.frame = func(c *Conn, b []byte) { c.Send(TextFrame(b)); c.Flush() }
	f.Fuzz(func(t *testing.T, data []byte) {
		s.t = t
		p, _, _ := s.connectOffering("permessage-deflate")
		s.survives(t, p, data)
	})
}
