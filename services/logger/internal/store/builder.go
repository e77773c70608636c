package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// builder collects the terms of one segment after the other, in memory that
// it uses again: some twenty terms a row leave no time for a Go map and an
// allocation each. Rows come in order of sequence. Not for concurrent use;
// the zero value is usable after reset.
type builder struct {
	first uint64   // the segment's first sequence
	seqs  []uint64 // of the rows
	words words

	// slots is a hash table with open addressing: the number of a term plus
	// one, or 0. Its length is a power of two, and at least half of it is free.
	slots []uint32
	seed  maphash.Seed
	terms []collected // by number
	text  []byte      // of the terms, one after the other
	key   []byte

	hits []hit // in the order of the rows

	// What blocks returns lies in these.
	postings []byte
	entries  []byte
	order    []ordered
	out      []block
}

// collected is a term.
type collected struct {
	hash       uint64
	start, end int // in text
	row        int // the last one it occurs in; -1: none yet
	size       int // of its posting, in bytes
	posting    int // where that is in postings
}

// hit is one term in one row. A segment has far fewer of either than fit.
type hit struct{ term, row uint32 }

// ordered is a term to be sorted: by its first eight bytes, which tell most
// terms apart, and then by all of them.
type ordered struct {
	prefix uint64
	term   uint32
}

// keptBytes is how large a builder's buffers may be to be kept for the next
// segment: rows of usual size need less, a segment of many rare words more.
const keptBytes = 8 << 20

// reset begins a segment.
func (b *builder) reset(first uint64) {
	if cap(b.text)+cap(b.entries)+8*cap(b.hits) > keptBytes {
		*b = builder{}
	}
	if b.slots == nil {
		b.seed, b.slots = maphash.MakeSeed(), make([]uint32, 1<<14)
	}
	clear(b.slots)
	b.first = first
	b.seqs, b.terms, b.text = b.seqs[:0], b.terms[:0], b.text[:0]
	b.hits = b.hits[:0]
}

func (b *builder) add(r *Row) {
	row := len(b.seqs)
	b.seqs = append(b.seqs, r.Seq)
	b.term(termChannel, []byte(r.Channel), row)
	b.term(termEvent, []byte(r.Event), row)
	b.term(termSender, []byte(r.Sender), row)
	for i := range b.words.split(searchable(r.Message)) {
		b.term(termWord, b.words.at(i), row)
	}
}

func (b *builder) term(kind byte, text []byte, row int) {
	b.key = append(append(b.key[:0], kind), text[:min(len(text), maxTermBytes-1)]...)
	n := b.number(b.key)
	t := &b.terms[n]
	if t.row == row {
		return // again in the same row
	}
	t.size += uvarintLen(b.distance(t, row))
	t.row = row
	b.hits = append(b.hits, hit{term: n, row: uint32(row)})
}

// distance is from the row that the term occurred in before, or from the
// segment's first sequence.
func (b *builder) distance(t *collected, row int) uint64 {
	if t.row < 0 {
		return b.seqs[row] - b.first
	}
	return b.seqs[row] - b.seqs[t.row]
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// number finds the term, or adds it.
func (b *builder) number(key []byte) uint32 {
	hash := maphash.Bytes(b.seed, key)
	mask := uint64(len(b.slots) - 1)
	i := hash & mask
	for ; b.slots[i] != 0; i = (i + 1) & mask {
		n := b.slots[i] - 1
		if t := &b.terms[n]; t.hash == hash && string(b.text[t.start:t.end]) == string(key) {
			return n
		}
	}
	n := uint32(len(b.terms))
	start := len(b.text)
	b.text = append(b.text, key...)
	b.terms = append(b.terms, collected{hash: hash, start: start, end: len(b.text), row: -1})
	b.slots[i] = n + 1
	if 2*len(b.terms) > len(b.slots) {
		b.grow()
	}
	return n
}

func (b *builder) grow() {
	b.slots = make([]uint32, 2*len(b.slots))
	mask := uint64(len(b.slots) - 1)
	for n := range b.terms {
		i := b.terms[n].hash & mask
		for b.slots[i] != 0 {
			i = (i + 1) & mask
		}
		b.slots[i] = uint32(n) + 1
	}
}

// blocks writes the terms in order: each entry is the term and the posting,
// both preceded by their length as uvarint. A posting is where the term
// occurs: the distances between sequences as uvarints, the first one from the
// segment's first sequence. What it returns is valid until the next reset.
func (b *builder) blocks() []block {
	b.writePostings()
	b.order = b.order[:0]
	for n := range b.terms {
		var first [8]byte
		copy(first[:], b.textOf(uint32(n)))
		b.order = append(b.order, ordered{prefix: binary.BigEndian.Uint64(first[:]), term: uint32(n)})
	}
	slices.SortFunc(b.order, func(x, y ordered) int {
		if c := cmp.Compare(x.prefix, y.prefix); c != 0 {
			return c
		}
		return bytes.Compare(b.textOf(x.term), b.textOf(y.term))
	})
	b.out = b.out[:0]
	e, begin := b.entries[:0], 0
	for _, o := range b.order {
		key, t := b.textOf(o.term), &b.terms[o.term]
		if len(b.out) == 0 || len(e)-begin >= blockBytes {
			b.out = append(b.out, block{first: key})
			begin = len(e)
		}
		e = binary.AppendUvarint(e, uint64(len(key)))
		e = append(e, key...)
		e = binary.AppendUvarint(e, uint64(t.size))
		e = append(e, b.postings[t.posting-t.size:t.posting]...)
		b.out[len(b.out)-1].entries = e[begin:] // and what follows, until the next block begins
	}
	b.entries = e
	return b.out
}

func (b *builder) textOf(n uint32) []byte { return b.text[b.terms[n].start:b.terms[n].end] }

// writePostings goes through the hits once more: their sizes are known now,
// so each finds its place in one buffer. Afterwards posting is where that of
// a term ends.
func (b *builder) writePostings() {
	end := 0
	for n := range b.terms {
		t := &b.terms[n]
		t.posting, t.row = end, -1
		end += t.size
	}
	b.postings = slices.Grow(b.postings[:0], end)[:end]
	for _, h := range b.hits {
		t, row := &b.terms[h.term], int(h.row)
		t.posting += binary.PutUvarint(b.postings[t.posting:], b.distance(t, row))
		t.row = row
	}
}
