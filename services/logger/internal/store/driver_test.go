//go:build cgo

package store

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"
)

// other is a store over the driver that builds without cgo use.
func other(t *testing.T, path string) *Store {
	t.Helper()
	db, err := sql.Open("sqlite", fileURI(path, url.Values{"mode": {"rw"}, "_txlock": {"immediate"}}))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return &Store{path: path, writer: db, readers: db, pageTime: defaultPageTime}
}

// One file, written by a build with cgo and by one without in turns (never at
// once in one process: two SQLites would break each other's POSIX locks).
func TestBothDriversUseOneFile(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "herald.db")
	s := open(t, path)
	appendAll(t, s, rows(epochA, 1, 5000))
	index(t, s)
	for turn := range 4 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if turn%2 == 0 {
			s = other(t, path)
		} else {
			s = open(t, path)
		}
		last, err := s.LastSeq(ctx, epochA)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendAll(t, s, rows(epochA, last-100, last+5000)); got != 5000 {
			t.Errorf("turn %d: got %d new rows, want 5000", turn, got)
		}
		if got := index(t, s); got == 0 {
			t.Errorf("turn %d: no segment was made", turn)
		}
		if got, want := len(all(t, s, Filter{Search: "number1*", Limit: MaxLimit})), countPrefix1(int(last)+5000); got != want {
			t.Errorf("turn %d: the search finds %d rows, want %d", turn, got, want)
		}
		if _, err := s.Retain(ctx, 0, 1<<40, start); err != nil {
			t.Errorf("turn %d: %v", turn, err)
		}
		checkIntegrity(t, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// countPrefix1 is how many numbers up to n begin with 1.
func countPrefix1(n int) int {
	count := 0
	for low := 1; low <= n; low *= 10 {
		count += min(n, 2*low-1) - low + 1
	}
	return count
}
