package store

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := crashPath(); path != "" {
		appendUntilKilled(path)
		return
	}
	goleak.VerifyTestMain(m)
}

const epochA, epochB = "mib3k2x9", "mib4zzzz"

var start = time.Date(2026, 11, 22, 16, 58, 36, 0, time.UTC)

// row makes a row whose timestamp is seq seconds after start.
func row(epoch string, seq uint64, channel, message string) Row {
	return Row{Message: message, Sender: "shop",
		Timestamp: proto.FormatTime(start.Add(time.Duration(seq) * time.Second)),
		Channel:   channel, Event: "message", Epoch: epoch, Seq: seq, Source: "203.0.113.7"}
}

// rows makes rows with the sequences first to last.
func rows(epoch string, first, last uint64) []Row {
	var out []Row
	for seq := first; seq <= last; seq++ {
		out = append(out, row(epoch, seq, fmt.Sprintf("orders.%d", seq%7),
			fmt.Sprintf(`{"n":%d,"text":"disk number%d is full"}`, seq, seq)))
	}
	return out
}

// packs makes rows of packs of one message each, with the stream sequences first
// to last.
func packs(epoch string, first, last uint64) []Row {
	out := rows(epoch, first, last)
	for i := range out {
		out[i].Seq = proto.Number(out[i].Seq, 0)
	}
	return out
}

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), path)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "herald.db"))
}

func appendAll(t testing.TB, s *Store, rows []Row) int {
	t.Helper()
	n, err := s.Append(context.Background(), rows)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return n
}

func query(t testing.TB, s *Store, f Filter) Page {
	t.Helper()
	p, err := s.Query(context.Background(), f)
	if err != nil {
		t.Fatalf("query %+v: %v", f, err)
	}
	return p
}

// all reads every page and returns the ids.
func all(t testing.TB, s *Store, f Filter) []string {
	t.Helper()
	out := []string{}
	for pages := 0; ; pages++ {
		p := query(t, s, f)
		for i := range p.Rows {
			out = append(out, p.Rows[i].ID())
		}
		if p.Next == "" {
			return out
		}
		if f.Cursor = p.Next; pages > 100_000 {
			t.Fatalf("the pages of %+v do not end", f)
		}
	}
}

// scalar reads one number from the file.
func scalar(t testing.TB, s *Store, query string) int {
	t.Helper()
	var n sql.NullInt64
	if err := s.readers.QueryRow(query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return int(n.Int64)
}

// limitPages lets the file grow to n pages of 4 KiB at most, so that a write which
// needs more meets SQLITE_FULL.
func limitPages(t testing.TB, s *Store, n int) {
	t.Helper()
	if _, err := s.writer.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
		t.Fatal(err)
	}
}

// checkIntegrity reads the whole file. A connection of its own does: one that has used FTS5 before takes what another
// has written since for damage.
func checkIntegrity(t testing.TB, s *Store) {
	t.Helper()
	db, err := connect(s.path, mode{open: "ro"})
	if err != nil {
		t.Fatal(err)
	}
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity_check: %q, %v", verdict, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
