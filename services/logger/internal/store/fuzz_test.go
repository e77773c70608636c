package store

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Words that a person can type lead to rows or to ErrSearch, never to an
// error of SQLite, and the same rows with and without the index.
func FuzzSearch(f *testing.F) {
	for _, q := range []string{"disk", "di* full", `"`, "a OR b", "NEAR(a b)", "col:x", "-- ", "';DROP TABLE messages", "\x00", "北*", "é", "{\"a\":1}", "u\\u0041"} {
		f.Add(q, "a "+q+" b")
	}
	plain, indexed := newStore(f), newStore(f)
	seq := uint64(0)
	f.Fuzz(func(t *testing.T, q, message string) {
		seq++
		r := row(epochA, seq, "a", message)
		for _, s := range []*Store{plain, indexed} { // one row each time: the time of a try must not grow
			if _, err := s.writer.Exec("DELETE FROM messages; DELETE FROM segments; DELETE FROM terms"); err != nil {
				t.Fatal(err)
			}
		}
		appendAll(t, plain, []Row{r})
		appendAll(t, indexed, []Row{r})
		sealAll(t, indexed)
		want := Filter{Search: q, Limit: MaxLimit}
		if q == "" {
			return
		}
		if err := want.Check(); err != nil {
			if !errors.Is(err, ErrSearch) {
				t.Fatalf("%q: got %v, want ErrSearch", q, err)
			}
			return
		}
		a, b := all(t, plain, want), all(t, indexed, want)
		if !slices.Equal(a, b) {
			t.Errorf("%q: without index %v, with it %v", q, a, b)
		}
		if fields := strings.Fields(q); len(fields) == 1 && message == q && utf8.ValidString(q) && q[0] != '{' && q[0] != '[' && !slices.Contains(a, r.ID()) {
			t.Errorf("%q does not find itself", q)
		}
	})
}

func FuzzSegmentBlock(f *testing.F) {
	var b builder
	b.reset(1)
	for _, r := range rows(epochA, 1, 50) {
		b.add(&r)
	}
	for _, bl := range b.blocks() {
		f.Add(bl.entries)
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, entries []byte) {
		err := readBlock(entries, func(_, seqs []byte) error {
			out, err := appendSeqs(nil, 1, 100, seqs)
			if !slices.IsSorted(out) || len(out) > 0 && (out[0] < 1 || out[len(out)-1] > 100) {
				t.Errorf("got %v, want ascending sequences of the segment", out)
			}
			return err
		})
		if err != nil && !errors.Is(err, errSegment) {
			t.Errorf("got %v, want errSegment", err)
		}
	})
}

func FuzzSearchable(f *testing.F) {
	f.Add(`{"a":"\u00e9\n\ud83d\ude00\ud83d"}`)
	f.Add(`["\\u0041"]`)
	f.Add(`[\`)
	f.Fuzz(func(t *testing.T, message string) {
		if got := searchable(message); utf8.ValidString(message) && !utf8.ValidString(got) {
			t.Errorf("%q became %q, which is not UTF-8", message, got)
		}
	})
}
