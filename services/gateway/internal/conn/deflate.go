package conn

import (
	"bytes"
	"compress/flate"
	"io"
	"slices"
	"sync"

	"github.com/herald-push/herald/proto"
)

// Messages compressed by permessage-deflate (RFC 7692). Each stands alone, so
// that nothing is kept between them, the bytes of one that goes out are the
// same for everybody, and its length tells nothing about another message.

// opDeflated is a whole text frame with RSV1 set: its payload is compressed.
const opDeflated = opText | rsv1

// flushed ends what a compressor has flushed, an empty block without
// compression. A message travels without it (RFC 7692 section 7.2.1).
const flushed = "\x00\x00\xff\xff"

// level is flate's: what the higher ones spare is less than a tenth of the
// message, and they clear 640 KiB before each. In microseconds of one core (an
// EPYC guest, Go 1.26), and the part of a JSON message that is left:
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

// deflater is what one compression needs: 1.2 MiB, which is why it is shared.
type deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

var deflaters = sync.Pool{New: func() any {
	d := &deflater{}
	d.w, _ = flate.NewWriter(&d.out, level) // fails on a wrong level only
	return d
}}

// DeflatedFrame is payload, compressed, as one unmasked WebSocket text frame
// for clients of which Deflates is true. nil: it does not get smaller. Safe for
// concurrent use.
func DeflatedFrame(payload []byte) []byte {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out.Reset()
	d.w.Reset(&d.out)
	_, _ = d.w.Write(payload) // a buffer takes everything
	_ = d.w.Flush()
	b := bytes.TrimSuffix(d.out.Bytes(), []byte(flushed))
	if len(b) >= len(payload) {
		return nil
	}
	return frame(opDeflated, b)
}

// inflater is what one inflation needs: 57 KiB.
type inflater struct {
	src bytes.Reader
	in  []byte // a message, and what it travelled without
	r   io.ReadCloser
	out [proto.MaxFrameBytes + 1]byte
}

var inflaters = sync.Pool{New: func() any {
	f := &inflater{}
	f.r = flate.NewReader(&f.src) // reads byte by byte, so that src knows what is left
	return f
}}

// afterMessage is what the compressor has left out, and a last block, without
// which the end could not be told from a message that is cut off.
const afterMessage = flushed + "\x01\x00\x00\xff\xff"

// inflate is what a client has compressed: memory of its own. Like a message
// that is not compressed it has at most proto.MaxFrameBytes: no more is ever
// inflated, whatever it claims to be. The code is why the client must leave; 0:
// it did nothing wrong.
func inflate(b []byte) ([]byte, proto.CloseCode) {
	f := inflaters.Get().(*inflater)
	defer inflaters.Put(f)
	f.in = append(append(f.in[:0], b...), afterMessage...)
	f.src.Reset(f.in)
	_ = f.r.(flate.Resetter).Reset(&f.src, nil) // never fails
	for n := 0; ; {                             // ends with an error at the latest
		k, err := f.r.Read(f.out[n:])
		n += k
		switch {
		case n > proto.MaxFrameBytes:
			return nil, proto.CloseTooBig
		case err == io.EOF && f.whole(b):
			return slices.Clone(f.out[:n]), 0
		case err != nil:
			return nil, proto.CloseInvalidPayload
		}
	}
}

// whole reports whether all of b was inflated. A compressor that cannot flush
// ends with a last block of its own, and a byte for an empty one after it that
// others forget (RFC 7692 section 7.2.3.4).
func (f *inflater) whole(b []byte) bool {
	switch left := f.src.Len() - len(afterMessage); left {
	case 0:
		return true
	case 1:
		return b[len(b)-1] == 0
	default:
		return left == -len(afterMessage)
	}
}
