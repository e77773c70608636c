package store

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Words that a person can type lead to rows or to ErrSearch, never to an
// error of SQLite, and the same rows as reading them all.
func FuzzSearch(f *testing.F) {
	for _, q := range []string{"disk", "di* full", `"`, "a OR b", "NEAR(a b)", "col:x", "-- ", "';DROP TABLE messages",
		"\x00", "北*", "é", "{\"a\":1}", "u\\u0041"} {
		f.Add(q, "a "+q+" b")
	}
	store := newStore(f)
	seq := uint64(0)
	f.Fuzz(func(t *testing.T, q, message string) {
		seq++
		r := row(epochA, seq, "a", message)
		// One row each time: the time of a try must not grow.
		if _, err := store.writer.Exec(
			"DELETE FROM messages; INSERT INTO words (words) VALUES ('delete-all')"); err != nil {
			t.Fatal(err)
		}
		appendAll(t, store, []Row{r})
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
		a, b := all(t, store, want), plainly(t, []Row{r}, want)
		if !slices.Equal(a, b) {
			t.Errorf("%q: with the index %v, by reading %v", q, a, b)
		}
		if fields := strings.Fields(q); len(fields) == 1 && message == q && utf8.ValidString(q) && q[0] != '{' &&
			q[0] != '[' && !slices.Contains(a, r.ID()) {
			t.Errorf("%q does not find itself", q)
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
