package httpx

import (
	"fmt"
	"io"
	"net/http"

	"github.com/herald-push/herald/proto"
)

// Body is a request's body of text that is read piece by piece, so that a handler may
// refuse it before it has arrived. A leading byte order mark is left out.
type Body struct {
	r      io.Reader
	length int64 // what the client says; less than 0: it does not
	max    int64
	bytes  []byte
	begun  bool // the byte order mark was looked for
	ended  bool
}

// NewBody prepares a body of at most maxBytes. The error is the problem of one
// that is announced as larger.
func NewBody(w http.ResponseWriter, r *http.Request, maxBytes int64) (*Body, error) {
	if r.ContentLength > maxBytes {
		return nil, proto.ProblemTooLarge.With(fmt.Sprintf("the body has %d bytes, at most %d are allowed",
			r.ContentLength, maxBytes))
	}
	b := &Body{r: r.Body, length: r.ContentLength, max: maxBytes}
	if b.length < 0 { // otherwise net/http reads no more than was announced
		b.r = http.MaxBytesReader(w, r.Body, maxBytes)
	}
	return b, nil
}

// Bytes is what was read so far, valid until the next call of More. After the
// last one it is the caller's.
func (b *Body) Bytes() []byte { return b.bytes }

// Ended reports whether Bytes is all of the body.
func (b *Body) Ended() bool { return b.ended }

// firstBytes bounds what is set aside for a body before any of it has come:
// its length is only what the client says.
const firstBytes = 64 << 10

// More reads the next piece of a body that has not ended. Its errors are
// mapped by Problem.
func (b *Body) More() error {
	if b.bytes == nil {
		b.bytes = make([]byte, 0, max(512, min(b.length+1, firstBytes))) // one more: where the end is seen
	}
	for {
		if len(b.bytes) == cap(b.bytes) {
			b.grow()
		}
		n, err := b.r.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case err == io.EOF:
			b.ended = true
		case err != nil && Problem(err) == nil: // broken chunks, a connection reset: no fault of ours
			return fmt.Errorf("read the body: %w: %w", err, proto.ProblemInvalidJSON.With("the body could not be read"))
		case err != nil:
			return fmt.Errorf("read the body: %w", err)
		}
		if !b.begun && (len(b.bytes) >= len(proto.BOM) || b.ended) {
			b.begun = true
			b.bytes = proto.SkipBOM(b.bytes)
		}
		if b.ended || b.begun && n > 0 {
			return nil
		}
	}
}

// grow doubles the room, up to what the client announced or may send.
func (b *Body) grow() {
	most := b.max
	if b.length >= 0 {
		most = b.length
	}
	room := min(2*int64(cap(b.bytes)), most+1)
	b.bytes = append(make([]byte, 0, max(room, int64(cap(b.bytes))+512)), b.bytes...)
}

// ReadBody reads a whole body of at most maxBytes, without a leading byte order
// mark. Its errors are mapped by Problem. The caller owns the result.
func ReadBody(w http.ResponseWriter, r *http.Request, maxBytes int64) ([]byte, error) {
	b, err := NewBody(w, r, maxBytes)
	if err != nil {
		return nil, err
	}
	return b.rest()
}

// ReadBytes is ReadBody of a body that is no text, whose first bytes are no byte order mark, whatever they are.
func ReadBytes(w http.ResponseWriter, r *http.Request, maxBytes int64) ([]byte, error) {
	b, err := NewBody(w, r, maxBytes)
	if err != nil {
		return nil, err
	}
	b.begun = true
	return b.rest()
}

func (b *Body) rest() ([]byte, error) {
	for !b.ended {
		if err := b.More(); err != nil {
			return nil, err
		}
	}
	return b.bytes, nil
}
