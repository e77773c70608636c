package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// count is how many rows batches have.
func count(batches [][]Row) (n int) {
	for _, b := range batches {
		n += len(b)
	}
	return n
}

func TestTailHasTheNewestRows(t *testing.T) {
	type step struct {
		rows  []Row
		fresh bool
	}
	many := rows(epochA, 1, tailRows+1)
	for _, c := range []struct {
		name  string
		steps []step
		first int64 // with which row the segment begins
		want  int   // rows
		whole bool
	}{
		{"nothing", nil, 1, 0, false},
		{"a rest", []step{{rows(epochA, 1, 5), true}, {rows(epochA, 6, 9), true}}, 1, 9, false},
		{"what is indexed is let go", []step{{rows(epochA, 1, 5), true}, {rows(epochA, 6, 9), true}}, 4, 6, false},
		{"all is indexed", []step{{rows(epochA, 1, 5), true}}, 6, 0, false},
		{"the file has rows before", []step{{rows(epochA, 11, 15), true}}, 3, 0, false},
		{"another first row", []step{{rows(epochA, 1, 5), true}, {rows(epochA, 8, 9), true}}, 6, 0, false},
		{"a hole in the stream", []step{{rows(epochA, 1, 5), true}, {rows(epochA, 8, 9), true}}, 1, 7, false},
		{"a whole segment", []step{{many[:segmentRows+7], true}}, 1, segmentRows, true},
		{"a redelivery", []step{{rows(epochA, 1, 5), true}, {rows(epochA, 5, 9), false}}, 1, 0, false},
		{"a late row", []step{{rows(epochA, 1, 5), true}, {rows(epochA, 7, 9), true}, {rows(epochA, 6, 6), true}}, 1, 0, false},
		{"in disorder", []step{{[]Row{many[1], many[0]}, true}}, 1, 0, false},
		{"another epoch", []step{{rows(epochB, 1, 5), true}, {rows(epochA, 1, 3), true}}, 1, 3, false},
		{"the other epoch is gone", []step{{rows(epochA, 1, 5), true}, {rows(epochB, 1, 3), true}}, 1, 0, false},
		{"two epochs at once", []step{{append(rows(epochA, 1, 5), rows(epochB, 1, 3)...), true}}, 1, 0, false},
		{"more than there is room for", []step{{many[:tailRows], true}, {many[tailRows:], true}}, 1, segmentRows, true},
		{"the end of it, and more is in the file", []step{{many[:tailRows], true}, {many[tailRows:], true}}, tailRows - 5, 0, false},
		{"on again once it is empty", []step{{many[:tailRows], true}, {many[tailRows:], true}, {nil, true}, {rows(epochA, tailRows+2, tailRows+5), true}}, tailRows + 2, 4, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tl := tail{due: make(chan struct{}, 1)}
			for _, s := range c.steps {
				if s.rows == nil { // everything so far is in the index
					tl.from(epochA, tailRows+2)
					continue
				}
				tl.appended(s.rows, s.fresh)
			}
			got, whole := tl.from(epochA, c.first)
			if count(got) != c.want || whole != c.whole {
				t.Errorf("got %d rows, %v, want %d, %v", count(got), whole, c.want, c.whole)
			}
			if len(got) > 0 && int64(got[0][0].Seq) != c.first {
				t.Errorf("it begins with %d, want %d", got[0][0].Seq, c.first)
			}
		})
	}
}

// Whatever comes in between, what is made of the tail is what would be made
// of the file.
func TestIndexFromMemoryIsThatOfTheFile(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newStore(t)
	appendAll(t, s, rows(epochA, 1, segmentRows+5))
	if batches, whole := s.tail.from(epochA, 1); !whole || count(batches) != segmentRows {
		t.Fatalf("got %d rows, %v, want a whole segment in memory", count(batches), whole)
	}
	index(t, s)
	next := uint64(segmentRows + 6)
	var late []Row
	for range 40 {
		batch := rows(epochA, next, next+uint64(rng.IntN(1500)))
		next += uint64(len(batch))
		switch rng.IntN(20) {
		case 0: // some come later
			i := rng.IntN(len(batch))
			late = append(late, batch[i])
			batch = slices.Delete(batch, i, i+1)
		case 1: // some came before
			appendAll(t, s, batch[:len(batch)/2])
		case 2:
			next += 10 // a hole
		case 3:
			appendAll(t, s, late)
			late = nil
		case 4:
			s.tail.moved()
		}
		appendAll(t, s, batch)
		if rng.IntN(3) == 0 {
			index(t, s)
		}
	}
	index(t, s)
	total := scalar(t, s, "SELECT count(*) FROM messages")
	if rest := scalar(t, s, "SELECT count(*) FROM messages WHERE seq > (SELECT max(last) FROM segments)"); rest >= segmentRows {
		t.Errorf("%d rows of %d are in no segment, want fewer than one has", rest, total)
	}
	if got := len(all(t, s, Filter{Search: "full disk"})); got != total {
		t.Errorf("search: got %d rows, want all %d", got, total)
	}
	for range 50 {
		f := Filter{Search: fmt.Sprintf("number%d", 1+rng.Uint64N(next))}
		want := scalar(t, s, "SELECT count(*) FROM messages WHERE message LIKE '%"+f.Search+" is%'")
		if got := len(all(t, s, f)); got != want {
			t.Errorf("search for %s: got %d rows, want %d", f.Search, got, want)
		}
	}
}

// A rest that is too short for a segment is not read each time.
func TestRestIsNotReadAgain(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	appendAll(t, s, rows(epochA, 1, 3000))
	s.tail.moved() // as after a restart
	for _, c := range []struct {
		name  string
		more  []Row
		short bool
	}{
		{"the first time", nil, true},
		{"some more rows", rows(epochA, 3001, 3500), true},
		{"one too few", rows(epochA, 3501, segmentRows-1), true},
	} {
		if len(c.more) > 0 {
			appendAll(t, s, c.more)
		}
		if n, err := s.Index(ctx); n != 0 || err != nil {
			t.Errorf("%s: got %d segments, %v, want none", c.name, n, err)
		}
		if got := s.tail.isTooShort(epochA, 0); got != c.short {
			t.Errorf("%s: too short: got %v, want %v", c.name, got, c.short)
		}
	}
	appendAll(t, s, rows(epochA, segmentRows, segmentRows))
	if s.tail.isTooShort(epochA, 0) {
		t.Error("a whole segment is taken for too short")
	}
	if n := index(t, s); n != 1 {
		t.Errorf("got %d segments, want 1", n)
	}
}
