package ws_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/gateway/internal/wstest"
)

var (
	deflate  = wstest.Deflate
	document = wstest.Document
)

// What a message travels without (RFC 7692 section 7.2.1), and with a last block
// after it.
const (
	flushMarker  = "\x00\x00\xff\xff"
	afterMessage = flushMarker + "\x01\x00\x00\xff\xff"
)

func inflate(b []byte) ([]byte, proto.CloseCode) { return ws.Inflate(b, proto.MaxFrameBytes) }

// payloadOf cuts a frame's header off.
func payloadOf(frame []byte) []byte {
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	}
	return frame[2:]
}

// The examples of RFC 7692 section 7.2.3, and what else may come.
func TestInflate(t *testing.T) {
	long := strings.Repeat("x", proto.MaxFrameBytes)
	for _, c := range []struct {
		name, in, out string
		code          proto.CloseCode
	}{
		{"one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello", 0},
		{"that looks back to another message", "\xf2\x00\x11\x00\x00", "", proto.CloseInvalidPayload},
		{"no compression", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello", 0},
		{"a last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello", 0},
		{"a last block, and nothing after it", "\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello", 0},
		{"two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello", 0},
		{"empty", "\x00", "", 0},
		{"empty by flate", deflate(""), "", 0},
		{"no bytes", "", "", proto.CloseInvalidPayload},
		{"something after a last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", "",
			proto.CloseInvalidPayload},
		{"a wrong byte after a last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x01", "", proto.CloseInvalidPayload},
		{"cut off", "\xf2\x48\xcd\xc9", "", proto.CloseInvalidPayload},
		{"cut off without compression", "\x00\x05\x00\xfa\xff\x48\x65", "", proto.CloseInvalidPayload},
		{"a block type that does not exist", "\x06", "", proto.CloseInvalidPayload},
		{"not compressed", `{"type":"ping"}`, "", proto.CloseInvalidPayload},
		{"the longest", deflate(long), long, 0},
		{"a byte too long", deflate(long + "x"), "", proto.CloseTooBig},
		{"a bomb", deflate(strings.Repeat("\x00", 16<<20)), "", proto.CloseTooBig},
	} {
		if out, code := inflate([]byte(c.in)); string(out) != c.out || code != c.code {
			t.Errorf("%s: got %.20q (%d bytes), %v; want %.20q (%d bytes), %v", c.name, out, len(out), code, c.out,
				len(c.out), c.code)
		}
	}
}

// A larger bound is kept to as well, and what was inflated with it does not stay
// in memory.
func TestInflateBound(t *testing.T) {
	const bound = 1 << 20
	long := strings.Repeat("x", bound)
	if out, code := ws.Inflate([]byte(deflate(long)), bound); string(out) != long || code != 0 {
		t.Errorf("the longest: got %d bytes, %v", len(out), code)
	}
	if out, code := ws.Inflate([]byte(deflate(long+"x")), bound); out != nil || code != proto.CloseTooBig {
		t.Errorf("a byte too long: got %d bytes, %v", len(out), code)
	}
}

// A message that is cut off anywhere is not taken for a shorter one. (Without
// compression, four bytes from the end, any inflater takes what the message
// travelled without for its last bytes: but 0xff is in no text.)
func TestInflateCutOff(t *testing.T) {
	for _, level := range []int{flate.HuffmanOnly, flate.BestSpeed, flate.BestCompression} {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, level)
		_, _ = w.Write(document(1000))
		_ = w.Flush()
		whole := bytes.TrimSuffix(b.Bytes(), []byte(flushMarker))
		if _, code := inflate(whole); code != 0 {
			t.Fatalf("level %d: got %v", level, code)
		}
		for n := range whole {
			if out, code := inflate(whole[:n]); code == 0 {
				t.Errorf("level %d: %d of %d bytes inflate to %d", level, n, len(whole), len(out))
			}
		}
	}
}

// A frame that is compressed is what RFC 7692 says, whoever inflates it, and
// shorter than the message.
func TestEncodeDeflated(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var running sync.WaitGroup
	for range 4 {
		docs := [][]byte{document(200), document(1000), document(10000), document(64 << 10),
			bytes.Repeat([]byte("a"), 1<<20)}
		for range 20 {
			docs = append(docs, document(r.IntN(20000)))
		}
		running.Go(func() {
			for _, doc := range docs {
				f := ws.EncodeDeflated(ws.Text, doc)
				payload := payloadOf(f)
				if f[0] != opText|wstest.RSV1 || len(payload) >= len(doc) ||
					!bytes.Equal(f[1:], ws.Encode(ws.Text, payload)[1:]) {
					t.Errorf("%d bytes: got frame %#02x of %d bytes", len(doc), f[0], len(payload))
				}
				got, err := io.ReadAll(flate.NewReader(strings.NewReader(string(payload) + afterMessage)))
				if err != nil || !bytes.Equal(got, doc) {
					t.Errorf("%d bytes inflate to %d, %v", len(doc), len(got), err)
				}
			}
		})
	}
	running.Wait()
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, b := range [][]byte{nil, []byte("{}"), noise} {
		if f := ws.EncodeDeflated(ws.Text, b); f != nil {
			t.Errorf("%d bytes that do not get smaller: got a frame of %d", len(b), len(f))
		}
	}
}

// What compressing and inflating leave behind is what they return.
func TestDeflateAllocs(t *testing.T) {
	doc := document(1000)
	in := []byte(deflate(string(doc)))
	const most = 10 // a compressor of its own makes 18; the race detector empties pools now and then
	for name, f := range map[string]func(){
		"compressing": func() { ws.EncodeDeflated(ws.Text, doc) }, "inflating": func() { _, _ = inflate(in) },
	} {
		n := testing.AllocsPerRun(200, f)
		for try := 0; n > most && try < 20; try++ { // a garbage collection empties pools, too
			n = testing.AllocsPerRun(200, f)
		}
		if n > most {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

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
		whole := flate.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader(afterMessage)))
		want, err := io.ReadAll(io.LimitReader(whole, proto.MaxFrameBytes+1))
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

func BenchmarkEncodeDeflated(b *testing.B) {
	for _, n := range []int{200, 800, 10000, 64000} {
		doc := document(n)
		b.Run(fmt.Sprintf("%dB", len(doc)), func(b *testing.B) {
			b.ReportAllocs()
			f := ws.EncodeDeflated(ws.Text, doc)
			for b.Loop() {
				f = ws.EncodeDeflated(ws.Text, doc)
			}
			b.ReportMetric(float64(len(f))/float64(len(doc)), "left")
		})
	}
}

func BenchmarkInflate(b *testing.B) {
	for _, c := range []struct{ name, in string }{
		{"subscribe", deflate(`{"type":"subscribe","channels":["orders.eu","orders.us"]}`)},
		{"8KB", deflate(string(document(8000)))},
		{"bomb", deflate(strings.Repeat("x", 1<<20))},
		{"headers", headers()}, // what costs most to read,
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			in := []byte(c.in)
			for b.Loop() {
				_, _ = inflate(in)
			}
		})
	}
}

// headers is as many blocks as fit, each with Huffman tables of its own, 90
// bits in all, for no data (RFC 1951 section 3.2.7).
func headers() string {
	var b []byte
	bits := 0
	put := func(n, x int) { // the lowest bit first
		for ; n > 0; n, x, bits = n-1, x>>1, bits+1 {
			if bits%8 == 0 {
				b = append(b, 0)
			}
			b[bits/8] |= byte(x&1) << (bits % 8)
		}
	}
	for range (proto.MaxFrameBytes - 1) * 8 / 90 {
		put(3, 0b100)   // dynamic, not the last
		put(14, 14<<10) // 257 literals, 1 distance, 18 lengths of code lengths
		for i := range 18 {
			put(3, map[int]int{2: 1, 17: 1}[i]) // of runs of zeros (code 1) and of ones (code 0)
		}
		put(8, 1|127<<1) // 138 zeros
		put(8, 1|107<<1) // 118 zeros
		put(3, 0)        // a one for the end of the block, one for a distance; the end
	}
	put(3, 0) // an empty block, whose rest afterMessage is
	return string(b)
}
