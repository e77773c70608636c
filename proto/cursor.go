package proto

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrCursor is wrapped by every error of ParseCursor.
var ErrCursor = errors.New("invalid id")

// Cursor is a place in the stream, and, written as text, the id of the
// message stored there: "mib3k2x9-1024", the epoch, a dash, the number.
// To clients it is opaque: alphabet [0-9a-z-], at most 64 bytes.
type Cursor struct {
	// Epoch names one life of the stream. Numbers of another epoch say
	// nothing: a stream that was made anew starts again at 1.
	Epoch string
	// Seq is the message's number: the stream sequence of its pack, shifted left by
	// PlaceBits, plus its index in the pack (see Number). 0 is before the first message.
	Seq uint64
}

// EpochOf writes the time at which an epoch began: milliseconds in base 36, 8 bytes.
func EpochOf(created time.Time) string {
	return strconv.FormatInt(created.UnixMilli(), 36)
}

// String is the id. AppendTo does the same without allocating.
func (c Cursor) String() string {
	var b [32]byte // an epoch of today has 8 bytes
	return string(c.AppendTo(b[:0]))
}

// AppendTo appends the id to b.
func (c Cursor) AppendTo(b []byte) []byte {
	b = append(b, c.Epoch...)
	b = append(b, '-')
	return strconv.AppendUint(b, c.Seq, 10)
}

// ParseCursor reads an id back. It accepts only what String writes.
func ParseCursor(id string) (Cursor, error) {
	if len(id) > 64 {
		return Cursor{}, fmt.Errorf("%w: it has %d bytes, ids have at most 64", ErrCursor, len(id))
	}
	epoch, digits, ok := strings.Cut(id, "-")
	if !ok || epoch == "" || digits == "" || len(digits) > 1 && digits[0] == '0' {
		return Cursor{}, fmt.Errorf("%w: %q is not an id that Herald gave out", ErrCursor, id)
	}
	for i := 0; i < len(epoch); i++ {
		if b := epoch[i]; (b < '0' || b > '9') && (b < 'a' || b > 'z') {
			return Cursor{}, fmt.Errorf("%w: %q is not an id that Herald gave out", ErrCursor, id)
		}
	}
	for i := 0; i < len(digits); i++ {
		if digits[i] < '0' || digits[i] > '9' {
			return Cursor{}, fmt.Errorf("%w: %q is not an id that Herald gave out", ErrCursor, id)
		}
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return Cursor{}, fmt.Errorf("%w: the sequence in %q is too large", ErrCursor, id)
	}
	return Cursor{Epoch: epoch, Seq: seq}, nil
}

// The two words that clients may send in place of an id.
const (
	// SinceAll asks for everything that the stream still has.
	SinceAll = "all"
	// SinceLast asks for the newest message of each channel named.
	SinceLast = "last"
)
