package ws

import (
	"bytes"
	"compress/flate"
	"io"
	"slices"
	"sync"

	"github.com/herald-push/herald/proto"
)

// Messages are compressed by permessage-deflate (RFC 7692), each by itself: so
// the gateway keeps no window for a client between two messages, a message that
// goes out is compressed once for all clients, and its length tells nothing
// about another message.

// flushMarker is the empty stored block that ends what a compressor has flushed.
// A message is sent without it (RFC 7692 section 7.2.1).
const flushMarker = "\x00\x00\xff\xff"

// level is flate's. Higher levels make a message less than a tenth smaller, and
// clear 640 KiB before each. In microseconds of one core (an EPYC guest, Go
// 1.26), and the part of a JSON message that is left:
//
//	level   300 B        1 KB         10 KB        64 KB
//	1       10  0.65     10  0.43     48  0.27     360  0.25
//	2       13  0.63     17  0.42     72  0.25     530  0.22
//	3       15  0.63     23  0.42     46  0.25     700  0.22
//
// klauspost/compress takes 6, 6, 29 and 140 at level 1, and leaves the same.
// Once per message, beside a write of 5 for each client, that is not worth a
// second implementation.
const level = flate.BestSpeed

// deflater is what one compression needs: 1.2 MiB, which is why it is pooled.
type deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

var deflaters = sync.Pool{New: func() any {
	d := &deflater{}
	d.w, _ = flate.NewWriter(&d.out, level) // fails on a wrong level only
	return d
}}

// EncodeDeflated is Encode with the payload compressed, for clients that
// negotiated permessage-deflate. It returns nil if that makes it no smaller. It is
// safe for concurrent use.
func EncodeDeflated(op Opcode, payload []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out.Reset()
	d.w.Reset(&d.out)
	_, _ = d.w.Write(payload) // a bytes.Buffer accepts everything
	_ = d.w.Flush()
	b := bytes.TrimSuffix(d.out.Bytes(), []byte(flushMarker))
	if len(b) >= len(payload) {
		return nil
	}
	return appendFrame(make([]byte, 0, len(b)+10), finBit|rsv1|byte(op), b)
}

// inflater is what one inflation needs: 57 KiB as long as messages are not
// larger than proto.MaxFrameBytes.
type inflater struct {
	src bytes.Reader
	in  []byte // the compressed message and afterMessage
	r   io.ReadCloser
	out []byte
}

var inflaters = sync.Pool{New: func() any {
	f := &inflater{out: make([]byte, proto.MaxFrameBytes+1)}
	f.r = flate.NewReader(&f.src) // reads byte by byte, so that src knows what is left
	return f
}}

// afterMessage is what the compressor has left out, and a last block: without
// one the end of a message could not be told from a message that is cut off.
const afterMessage = flushMarker + "\x01\x00\x00\xff\xff"

// Inflate returns the message that b is the compressed form of, in memory of its
// own. It never inflates more than maxBytes, whatever b claims to be: a longer
// message is CloseTooBig. The code says how the client broke the protocol; 0: it
// did not. It is safe for concurrent use.
func Inflate(b []byte, maxBytes int) ([]byte, proto.CloseCode) {
	f := inflaters.Get().(*inflater)
	if maxBytes <= proto.MaxFrameBytes {
		defer inflaters.Put(f) // a larger one is not kept
	}
	f.in = append(append(f.in[:0], b...), afterMessage...)
	f.src.Reset(f.in)
	_ = f.r.(flate.Resetter).Reset(&f.src, nil) // never fails
	for n := 0; ; {                             // ends with an error at the latest
		if n == len(f.out) {
			f.out = slices.Grow(f.out, n)[:min(2*n, maxBytes+1)]
		}
		k, err := f.r.Read(f.out[n:])
		n += k
		switch {
		case n > maxBytes:
			return nil, proto.CloseTooBig
		case err == io.EOF && f.consumed(b):
			return slices.Clone(f.out[:n]), 0
		case err != nil:
			return nil, proto.CloseInvalidPayload
		}
	}
}

// consumed reports whether all of b was inflated. A compressor that cannot flush
// ends with a last block of its own, and a byte for an empty block after it,
// which others forget (RFC 7692 section 7.2.3.4).
func (f *inflater) consumed(b []byte) bool {
	switch left := f.src.Len() - len(afterMessage); left {
	case 0:
		return true
	case 1:
		return b[len(b)-1] == 0
	default:
		return left == -len(afterMessage)
	}
}
