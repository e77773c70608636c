package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/logger/internal/store"
)

// Epochs in the order of the stream: a longer name is later, and text decides among equally long ones.
var epochs = []string{"zzzzzzz", "mib3k2x9", "mib4zzzz", "mib3k2x9p"}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// entry makes a row of its own pack, seq seconds after noon.
func entry(epoch string, seq uint64, channel, message string) store.Row {
	return store.Row{
		Message: message, Sender: "shop", Timestamp: proto.FormatTime(noon.Add(time.Duration(seq) * time.Second)),
		Channel: channel,
		Event:   "message", Epoch: epoch, Seq: proto.Number(seq, 0), Source: "203.0.113.7",
	}
}

// entries makes the rows first to last of one channel, each with its number as a word.
func entries(epoch string, first, last uint64) []store.Row {
	var out []store.Row
	for seq := first; seq <= last; seq++ {
		out = append(out, entry(epoch, seq, "orders", fmt.Sprintf("order n%d", seq)))
	}
	return out
}

// log is a store under test and the path of its file.
type log struct {
	*store.Store
	t    testing.TB
	path string
}

func openLog(t testing.TB, path string) *log {
	t.Helper()
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l := &log{s, t, path}
	t.Cleanup(func() { _ = s.Close() }) // again does nothing
	return l
}

func newLog(t testing.TB) *log { return openLog(t, filepath.Join(t.TempDir(), "herald.db")) }

func (l *log) add(rows ...store.Row) {
	l.t.Helper()
	if _, err := l.Append(l.t.Context(), rows); err != nil {
		l.t.Fatal(err)
	}
}

// seqs reads every page of a filter and returns the packs' sequences.
func (l *log) seqs(f store.Filter) []uint64 {
	l.t.Helper()
	var out []uint64
	for _, r := range l.rows(f) {
		out = append(out, proto.PackOf(r.Seq))
	}
	return out
}

// rows reads every page of a filter.
func (l *log) rows(f store.Filter) []store.Row {
	l.t.Helper()
	var out []store.Row
	for range 10_000 {
		page, err := l.Query(l.t.Context(), f)
		if err != nil {
			l.t.Fatalf("query %+v: %v", f, err)
		}
		out = append(out, page.Rows...)
		if page.Next == "" {
			return out
		}
		f.Cursor = page.Next
	}
	l.t.Fatalf("the pages of %+v do not end", f)
	return nil
}

// exec runs statements as a sqlite3 shell would, on a connection of its own.
func (l *log) exec(statements string) {
	l.t.Helper()
	exec(l.t, l.path, statements)
}

func exec(t testing.TB, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("PRAGMA busy_timeout = 10000; " + statements); err != nil {
		t.Errorf("%.100s: %v", statements, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// number reads one number with a connection of its own.
func (l *log) number(query string) (n int64) {
	l.t.Helper()
	db, err := sql.Open("sqlite", l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := db.QueryRow(query).Scan(&n); err != nil {
		l.t.Errorf("%s: %v", query, err)
	}
	if err := db.Close(); err != nil {
		l.t.Error(err)
	}
	return n
}

// sound fails the test if the file is damaged or has rows that its index does not.
func (l *log) sound() {
	l.t.Helper()
	db, err := sql.Open("sqlite", l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	var verdict string
	if err := errors.Join(db.QueryRow("PRAGMA integrity_check").Scan(&verdict), db.Close()); err != nil ||
		verdict != "ok" {
		l.t.Errorf("integrity_check: %q, %v", verdict, err)
	}
	if rows, documents := l.number("SELECT count(*) FROM messages"),
		l.number("SELECT count(*) FROM words_docsize"); rows != documents {
		l.t.Errorf("got %d rows and %d documents in the index", rows, documents)
	}
}

// count is how many rows the file has.
func (l *log) count() int64 { return l.number("SELECT count(*) FROM messages") }

// numbers writes sequences as a table does: "1 2 3".
func numbers(seqs []uint64) string { return strings.Trim(fmt.Sprint(seqs), "[]") }

func reversed(seqs []uint64) []uint64 {
	out := slices.Clone(seqs)
	slices.Reverse(out)
	return out
}
