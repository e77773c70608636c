package store

import "sync"

// tailRows and tailBytes (of messages) bound the tail: four segments, so that
// Append may run ahead of Index by some, and some memory.
const (
	tailRows  = 4 * segmentRows
	tailBytes = 4 * segmentBytes
)

// tail has the newest rows of the file, as Append wrote them, until they are
// in the index: reading them back would cost more than indexing them. What it
// does not have is read; and what it has is counted again in the file before a
// segment of it is written, so that a mistake here costs time, never rows.
//
// Safe for concurrent use by Append and one Index.
type tail struct {
	due chan struct{} // of size one; never closed

	mu sync.Mutex
	// Guarded by mu.
	epoch string
	// batches have rows of the epoch, in order: all that the file has between
	// the first and the last of them. No row is ever changed.
	batches [][]Row
	held    amount
	full    bool   // there are rows after those for which there was no room
	seen    amount // appended since the start
	// short is a rest that was too short for a segment: it begins at the
	// sequence first, and nothing can be made of it before seen is at least
	// enough in one of both.
	short struct {
		epoch  string
		first  int64
		enough amount
	}
}

// amount is rows, and the bytes of their messages.
type amount struct{ rows, bytes int }

func (a *amount) add(r *Row) {
	a.rows++
	a.bytes += len(r.Message)
}

// whole reports whether it is what a segment is made of.
func (a amount) whole() bool { return a.rows >= segmentRows || a.bytes >= segmentBytes }

// appended takes rows that were written, which must not be changed any more.
// fresh says that all of them were new.
func (t *tail) appended(rows []Row, fresh bool) {
	var more amount
	for i := range rows {
		more.add(&rows[i])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.rows += more.rows
	t.seen.bytes += more.bytes
	if rows[0].Epoch != t.epoch {
		t.forget()
		t.epoch = rows[0].Epoch
	}
	if !fresh || !t.continuedBy(rows) {
		t.forget()
		return
	}
	t.full = t.full || t.held.rows+more.rows > tailRows || t.held.bytes+more.bytes > tailBytes
	if !t.full {
		t.batches = append(t.batches, rows)
		t.held.rows += more.rows
		t.held.bytes += more.bytes
	}
	if t.held.whole() {
		select {
		case t.due <- struct{}{}:
		default: // Index is asked already
		}
	}
}

// continuedBy reports whether the rows are in order, and after those held.
func (t *tail) continuedBy(rows []Row) bool {
	last := uint64(0)
	if n := len(t.batches); n > 0 {
		b := t.batches[n-1]
		last = b[len(b)-1].Seq
	}
	for i := range rows {
		if rows[i].Epoch != t.epoch || rows[i].Seq <= last {
			return false
		}
		last = rows[i].Seq
	}
	return true
}

func (t *tail) forget() { t.batches, t.held, t.full = nil, amount{}, false }

// moved is told when the file turned out to have other rows.
func (t *tail) moved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
}

// from returns the rows of the segment that begins with the row of the
// sequence first, at least one, and whether they are a whole one; or none, if
// it does not have them. What is before them is let go.
func (t *tail) from(epoch string, first int64) (batches [][]Row, whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch != t.epoch || !t.dropBefore(first) {
		return nil, false
	}
	var size amount
	for _, b := range t.batches {
		for i := range b {
			size.add(&b[i])
			if size.whole() {
				return append(batches, b[:i+1]), true
			}
		}
		batches = append(batches, b)
	}
	if t.full { // it goes on in the file alone
		t.forget()
		return nil, false
	}
	return batches, false
}

// dropBefore lets go of rows before a sequence, and reports whether the row
// of it comes first then.
func (t *tail) dropBefore(first int64) bool {
	for len(t.batches) > 0 {
		b := t.batches[0]
		for len(b) > 0 && int64(b[0].Seq) < first {
			t.held.rows--
			t.held.bytes -= len(b[0].Message)
			b = b[1:]
		}
		if t.batches[0] = b; len(b) > 0 {
			return int64(b[0].Seq) == first
		}
		t.batches = t.batches[1:]
	}
	t.forget() // no longer full
	return false
}

// appendedSoFar is what tooShort wants to know, from before the rows were read.
func (t *tail) appendedSoFar() amount {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen
}

// tooShort notes that the file, when seen was appended, had no more than rest
// from the sequence first on.
func (t *tail) tooShort(epoch string, first int64, rest, seen amount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.short.epoch, t.short.first = epoch, first
	t.short.enough = amount{seen.rows + segmentRows - rest.rows, seen.bytes + segmentBytes - rest.bytes}
}

// isTooShort reports whether the rest from first on cannot be a segment yet.
func (t *tail) isTooShort(epoch string, first int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.short.epoch == epoch && t.short.first == first && t.seen.rows < t.short.enough.rows && t.seen.bytes < t.short.enough.bytes
}
