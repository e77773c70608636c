package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestOpenMakesAPrivateFileWithOurPragmas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a folder?", "50% #1.db")
	s := open(t, path)
	for _, c := range []struct{ pragma, want string }{
		{"journal_mode", "wal"}, {"synchronous", "2"}, {"auto_vacuum", "2"}, {"busy_timeout", "5000"},
		{"query_only", "0"}, {"journal_size_limit", "67108864"}, {"user_version", "2"}, {"cache_size", "-8192"},
		{"temp_store", "2"},
	} {
		var got string
		if err := s.writer.QueryRow("PRAGMA " + c.pragma).Scan(&got); err != nil || got != c.want {
			t.Errorf("writer's %s: got %q, %v, want %q", c.pragma, got, err, c.want)
		}
	}
	if _, err := s.readers.Exec("DELETE FROM messages"); err == nil {
		t.Error("a reader can write")
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, c := range []struct {
		path string
		want os.FileMode
	}{{filepath.Dir(path), 0o700}, {path, 0o600}, {path + "-wal", 0o600}} {
		info, err := os.Stat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != c.want {
			t.Errorf("mode of %s: got %o, want %o", filepath.Base(c.path), got, c.want)
		}
	}
}

func TestColumnsStandInTheOrderForPeople(t *testing.T) {
	s := newStore(t)
	rows, err := s.readers.Query("SELECT * FROM messages")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got, err := rows.Columns()
	if want := "message sender timestamp channel event id epoch seq source"; err != nil ||
		strings.Join(got, " ") != want {
		t.Errorf("columns: got %q, %v, want %q", got, err, want)
	}
}

func TestRowsComeBackAsTheyWere(t *testing.T) {
	s := newStore(t)
	want := Row{Message: "a b 'quoted' \"x\" ünï 北京 \xff\U0001F600\n\t", Sender: "s'); DROP TABLE messages;--",
		Timestamp: "2026-11-22T16:58:36.123Z",
		Channel:   "orders.eu", Event: "created", Epoch: epochA, Seq: maxSeq, Source: "2001:db8::1"}
	appendAll(t, s, []Row{want})
	p := query(t, s, Filter{})
	if len(p.Rows) != 1 || p.Rows[0] != want {
		t.Errorf("got %+v, want %+v", p.Rows, want)
	}
	const id = "mib3k2x9-281474976710655"
	var column string
	if err := s.readers.QueryRow("SELECT id FROM messages").Scan(&column); err != nil || column != id ||
		p.Rows[0].ID() != id {
		t.Errorf("id: got %q, and %q in the file, %v, want %q", p.Rows[0].ID(), column, err, id)
	}
}

// A NUL does not cut a message off for who reads the table with sqlite3.
func TestNULIsWrittenAsAnEscape(t *testing.T) {
	s := newStore(t)
	appendAll(t, s, []Row{row(epochA, 1, "a", "before\x00after <b>"), row(epochA, 2, "a", "\x00")})
	for seq, want := range map[int]string{1: `"before\u0000after <b>"`, 2: `"\u0000"`} {
		var got string
		if err := s.readers.QueryRow("SELECT message || '' FROM messages WHERE seq = ? AND length(message) = ?", seq,
			len(want)).Scan(&got); err != nil || got != want {
			t.Errorf("row %d: got %q, %v, want %q", seq, got, err, want)
		}
	}
	for _, word := range []string{"before", "after", "b"} {
		if got := all(t, s, Filter{Search: word}); len(got) != 1 {
			t.Errorf("search %q: got %v, want the first row", word, got)
		}
	}
}

func TestRedeliveryChangesNothing(t *testing.T) {
	s := newStore(t)
	first := rows(epochA, 1, 200)
	if got := appendAll(t, s, first); got != 200 {
		t.Errorf("first append: got %d new rows, want 200", got)
	}
	again := rows(epochA, 101, 300)
	for i := range again {
		again[i].Message = "changed"
	}
	if got := appendAll(t, s, again); got != 100 {
		t.Errorf("redelivery: got %d new rows, want 100", got)
	}
	if got := appendAll(t, s, rows(epochB, 1, 10)); got != 10 {
		t.Errorf("another epoch with the same sequences: got %d new rows, want 10", got)
	}
	if got := scalar(t, s, "SELECT count(*) FROM messages WHERE message = 'changed'"); got != 100 {
		t.Errorf("rows of the redelivery: got %d, want the 100 new ones", got)
	}
	if got, err := s.LastSeq(context.Background(), epochA); got != 300 || err != nil {
		t.Errorf("last sequence: got %d, %v, want 300", got, err)
	}
	if got, err := s.LastSeq(context.Background(), "nobody"); got != 0 || err != nil {
		t.Errorf("last sequence of an unknown epoch: got %d, %v, want 0", got, err)
	}
}

func TestFullDiskRollsBackAndHeals(t *testing.T) {
	s := newStore(t)
	appendAll(t, s, rows(epochA, 1, 100))
	pages := scalar(t, s, "SELECT page_count FROM pragma_page_count")
	limitPages(t, s, pages+4)
	for range 3 {
		n, err := s.Append(context.Background(), rows(epochA, 101, 1100))
		if !errors.Is(err, ErrFull) || n != 0 {
			t.Fatalf("append without room: got %d, %v, want ErrFull", n, err)
		}
	}
	if got := scalar(t, s, "SELECT count(*) FROM messages"); got != 100 {
		t.Errorf("rows after a failed batch: got %d, want the 100 from before", got)
	}
	limitPages(t, s, 1<<30)
	if got := appendAll(t, s, rows(epochA, 101, 1100)); got != 1000 {
		t.Errorf("with room again: got %d new rows, want 1000", got)
	}
	checkIntegrity(t, s)
}

func TestOpenRefusesWhatIsNotOurs(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	if _, err := OpenReader(ctx, filepath.Join(dir, "missing.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("read a missing file: got %v, want ErrNotExist", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("reading a missing file made %v, %v", entries, err)
	}
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 200)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, text); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("open a text file: got %v, want an error that names it", err)
	}
	newer := filepath.Join(dir, "newer.db")
	s := open(t, newer)
	if _, err := s.writer.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, newer); !errors.Is(err, ErrVersion) {
		t.Errorf("open a newer file: got %v, want ErrVersion", err)
	}
	if _, err := OpenReader(ctx, newer); !errors.Is(err, ErrVersion) {
		t.Errorf("read a newer file: got %v, want ErrVersion", err)
	}
}

func TestReaderBesideTheWriter(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "herald.db")
	s := open(t, path)
	appendAll(t, s, rows(epochA, 1, 50))
	r, err := OpenReader(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for last := uint64(50); last <= 150; last += 50 {
		if got := len(all(t, r, Filter{})); got != int(last) {
			t.Errorf("reader: got %d rows, want %d", got, last)
		}
		appendAll(t, s, rows(epochA, last+1, last+50))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(all(t, r, Filter{})); got != 200 {
		t.Errorf("reader after the writer left: got %d rows, want 200", got)
	}
	if size, err := r.FileBytes(); err != nil || size < 10_000 {
		t.Errorf("file: got %d bytes, %v", size, err)
	}
}

// BenchmarkAppend counts the index of the words too.
func BenchmarkAppend(b *testing.B) {
	const batch = 1000
	s := newStore(b)
	all := rows(epochA, 1, uint64(b.N)+batch)
	b.ResetTimer()
	for i := 0; i < b.N; i += batch {
		appendAll(b, s, all[i:min(i+batch, b.N)])
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
