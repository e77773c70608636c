package store

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Kinds of terms in a segment: the first byte of a term says in which column
// it stands.
const (
	termChannel = 'c'
	termEvent   = 'e'
	termSender  = 's'
	termWord    = 'w'
)

const (
	// maxTermBytes cuts longer terms off: hits are checked against the rows.
	maxTermBytes = 48
	// blockBytes is when a block of entries is full. Reading one costs about
	// what finding it costs.
	blockBytes = 8 << 10
)

// errSegment: a block of the index is damaged. Its rows are read instead.
var errSegment = errors.New("a block of the search index is damaged")

func term(kind byte, text []byte) []byte {
	return append([]byte{kind}, text[:min(len(text), maxTermBytes-1)]...)
}

// block is a row of the table terms.
type block struct{ first, entries []byte }

// readBlock calls each for every entry of a block.
func readBlock(entries []byte, each func(term, seqs []byte) error) error {
	for len(entries) > 0 {
		var t, seqs []byte
		var ok bool
		if t, entries, ok = cutBytes(entries); !ok || len(t) == 0 {
			return errSegment
		}
		if seqs, entries, ok = cutBytes(entries); !ok {
			return errSegment
		}
		if err := each(t, seqs); err != nil {
			return err
		}
	}
	return nil
}

func cutBytes(b []byte) (head, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size : size+int(n)], b[size+int(n):], true
}

// appendSeqs reads a posting of a segment that covers first to last.
func appendSeqs(out []uint64, first, last uint64, seqs []byte) ([]uint64, error) {
	seq := first
	for i := 0; len(seqs) > 0; i++ {
		d, size := binary.Uvarint(seqs)
		if size <= 0 || d > last-seq || d == 0 && i > 0 {
			return nil, errSegment
		}
		seq += d
		out = append(out, seq)
		seqs = seqs[size:]
	}
	return out, nil
}

// termRange is the terms from lo up to, not including, hi.
type termRange struct {
	lo, hi []byte
	// match picks among them; nil takes all.
	match func(term []byte) bool
}

// exactly is the range of one term.
func exactly(kind byte, text []byte) termRange {
	t := term(kind, text)
	return termRange{lo: t, hi: append(bytes.Clone(t), 0)}
}

// prefixed is the range of terms that begin like this.
func prefixed(kind byte, text []byte) termRange {
	t := term(kind, text)
	return termRange{lo: t, hi: after(t)}
}

// after is the lowest term that does not begin with t. The kind is the first
// byte and below 0xff, so there is one.
func after(t []byte) []byte {
	hi := bytes.Clone(t)
	for hi[len(hi)-1] == 0xff {
		hi = hi[:len(hi)-1]
	}
	hi[len(hi)-1]++
	return hi
}
