package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/logger/internal/store"
)

// fill makes every statement of one kind on a table ("INSERT ON messages") fail with SQLITE_FULL, as a full disk does:
// a trigger adds to a table that has given out its last key.
func (l *log) fill(what string) {
	l.t.Helper()
	l.exec("BEGIN IMMEDIATE; CREATE TABLE full (key INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO full VALUES " +
		"(9223372036854775807);" +
		"CREATE TRIGGER disk BEFORE " + what + " BEGIN INSERT INTO full VALUES (NULL); END; COMMIT")
}

// free makes room again.
func (l *log) free() {
	l.t.Helper()
	l.exec("BEGIN IMMEDIATE; DROP TRIGGER disk; DROP TABLE full; COMMIT")
}

// Whatever the log writes when the disk is full, it says ErrFull with what can be done, changes nothing, and does the
// same once there is room. Reading works meanwhile.
func TestFullDisk(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		name, what string
		write      func(*log) error
		done       func(*log) bool // whether the write's effect is there
	}{
		{"append", "INSERT ON messages",
			func(l *log) error { _, err := l.Append(ctx, entries(epochs[1], 11, 200)); return err },
			func(l *log) bool { return l.count() == 200 }},
		{"append, at the last row", "INSERT ON messages WHEN new.seq = 204800",
			func(l *log) error { _, err := l.Append(ctx, entries(epochs[1], 11, 200)); return err },
			func(l *log) bool { return l.count() == 200 }},
		{"a new epoch", "INSERT ON epochs",
			func(l *log) error { _, err := l.Begin(ctx, epochs[2], 7); return err },
			func(l *log) bool { return l.number("SELECT count(*) FROM epochs") == 2 }},
		{"an account", "UPDATE ON epochs",
			func(l *log) error { _, err := l.Account(ctx, epochs[1], 15); return err },
			func(l *log) bool { return l.number("SELECT holes FROM epochs") == 5 }},
		{"retention by age", "DELETE ON messages",
			func(l *log) error { _, err := l.Retain(ctx, 1, 0, noon.Add(1e12)); return err },
			func(l *log) bool { return l.count() == 0 }},
		{"retention by size", "DELETE ON messages",
			func(l *log) error { _, err := l.Retain(ctx, 0, 1, noon); return err },
			func(l *log) bool { return l.count() == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLog(t)
			l.add(entries(epochs[1], 1, 10)...)
			if _, err := l.Account(ctx, epochs[1], 10); err != nil {
				t.Fatal(err)
			}
			l.fill(c.what)
			for range 2 {
				err := c.write(l)
				if !errors.Is(err, store.ErrFull) || store.Reason(err) != "full" ||
					store.Remedy(err) != "make room on its disk" {
					t.Fatalf("got %v, reason %q, remedy %q, want ErrFull", err, store.Reason(err), store.Remedy(err))
				}
				if c.done(l) || l.count() != 10 {
					t.Errorf("something of it is in the file: %d rows", l.count())
				}
				if got := len(l.seqs(store.Filter{Search: "order"})); got != 10 {
					t.Errorf("reading meanwhile: got %d rows, want 10", got)
				}
			}
			l.free()
			if err := c.write(l); err != nil || !c.done(l) {
				t.Errorf("with room again: got %v, done %v", err, c.done(l))
			}
			l.sound()
		})
	}
}

// Files that are damaged, in one place each: what is said, and what still works.
func TestBrokenFiles(t *testing.T) {
	const page = 4096
	whole := newLog(t)
	whole.add(entries(epochs[1], 1, 500)...)
	whole.Close()
	sound, err := os.ReadFile(whole.path)
	if err != nil {
		t.Fatal(err)
	}
	broken := func(change func(b []byte) []byte) []byte { return change(slices.Clone(sound)) }
	for _, c := range []struct {
		name    string
		content []byte
		reason  string // of the error of Open or of the first query
	}{
		{"no database", []byte(strings.Repeat("this is a text\n", 1000)), "damaged"},
		{"a database of nothing but zeros", make([]byte, 4*page), "damaged"},
		{"another magic", broken(func(b []byte) []byte { b[0] = 's'; return b }), "damaged"},
		{"the schema overwritten", broken(func(b []byte) []byte { copy(b[100:page], make([]byte, page)); return b }),
			"damaged"},
		{"cut off within the first page", sound[:1000], "damaged"},
		{"cut off in the middle", sound[:len(sound)/2/page*page], "damaged"},
		{"every page but the first overwritten", broken(func(b []byte) []byte {
			for i := page; i < len(b); i++ {
				b[i] = 0xff
			}
			return b
		}), "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "herald.db")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(t.Context(), path)
			if err == nil {
				_, err = s.Query(t.Context(), store.Filter{Limit: store.MaxLimit})
				if err == nil {
					_, err = s.Append(t.Context(), entries(epochs[1], 501, 600))
				}
				_ = s.Close()
			}
			if store.Reason(err) != c.reason || !strings.Contains(store.Remedy(err), "move the file away") {
				t.Errorf("got %v, reason %q, remedy %q, want %s", err, store.Reason(err), store.Remedy(err), c.reason)
			}
			if got, err := os.ReadFile(path); err != nil || len(got) < len(c.content) {
				t.Errorf("the file has %d bytes, %v, and had %d", len(got), err, len(c.content))
			}
		})
	}
}

// A damaged index costs time and no rows: searches read the rows, and the next append makes the index anew.
func TestBrokenIndex(t *testing.T) {
	for _, damage := range []string{
		"UPDATE words_data SET block = x'00' WHERE id > 10",
		"DELETE FROM words_data WHERE id > 10",
		"UPDATE words_data SET block = randomblob(length(block)) WHERE id > 10",
	} {
		l := newLog(t)
		l.add(entries(epochs[1], 1, 300)...)
		l.exec(damage)
		for i := range uint64(3) {
			for q, want := range map[string]int{"n17": 1, "order": int(300 + 100*i), "absent": 0} {
				if got := len(l.seqs(store.Filter{Search: q})); got != want {
					t.Errorf("%s: search %q: got %d rows, want %d", damage, q, got, want)
				}
			}
			l.add(entries(epochs[1], 301+100*i, 400+100*i)...)
		}
	}
	l := newLog(t)
	l.add(entries(epochs[1], 1, 300)...)
	l.exec("UPDATE words_data SET block = zeroblob(length(block))") // an index of nothing, which searches believe
	l.add(entries(epochs[1], 301, 400)...)
	if got := len(l.seqs(store.Filter{Search: "order"})); got != 400 {
		t.Errorf("an index that was empty: got %d rows after the next append, want 400", got)
	}
	l.sound()
}

// Paths at which there can be no log, by what is there, and the same judged by CheckWritable, which changes nothing.
func TestPathsThatAreNoLog(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"a folder": dir, "below a file": filepath.Join(file, "herald.db"),
		"no name": ""} {
		if s, err := store.Open(t.Context(), path); err == nil {
			t.Errorf("%s: it opens", name)
			_ = s.Close()
		}
	}
	missing := filepath.Join(dir, "new", "herald.db")
	if err := store.CheckWritable(t.Context(), missing); err != nil {
		t.Errorf("CheckWritable of a file that is not there: %v", err)
	}
	if _, err := store.OpenReader(t.Context(), missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenReader of a file that is not there: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(missing)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder was made: %v", err)
	}
	odd := filepath.Join(dir, "ä ?#%25&mode=memory", "log's 100%.db") // nothing of a path is special
	l := openLog(t, odd)
	l.add(entries(epochs[1], 1, 3)...)
	if err := store.CheckWritable(t.Context(), odd); err != nil {
		t.Errorf("CheckWritable beside the writer: %v", err)
	}
	r, err := store.OpenReader(t.Context(), odd)
	if err != nil {
		t.Fatal(err)
	}
	if page, err := r.Query(t.Context(), store.Filter{}); err != nil || len(page.Rows) != 3 {
		t.Errorf("got %d rows, %v, want 3", len(page.Rows), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(odd); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v, want one for its owner", info.Mode(), err)
	}
}

// Readers in numbers, in this process and beside it, see whole batches while one writes: what Append has returned for
// is there, and nothing of a batch without the rest.
func TestManyReadersAndOneWriter(t *testing.T) {
	const batch, batches = 20, 40 / store.Fewer * 2
	l := newLog(t)
	beside, err := store.OpenReader(t.Context(), l.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = beside.Close() })
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for i, s := range []*store.Store{l.Store, l.Store, l.Store, l.Store, l.Store, l.Store, beside, beside} {
		readers.Go(func() {
			before := 0
			for ctx.Err() == nil {
				f := store.Filter{Limit: store.MaxLimit, Asc: i%2 == 0}
				if i%3 == 0 {
					f.Search = "order"
				}
				page, err := s.Query(context.WithoutCancel(ctx), f)
				if err != nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				if n := len(page.Rows); page.Next == "" && (n%batch != 0 || n < before) {
					t.Errorf("reader %d: got %d rows after %d, want whole batches", i, n, before)
				} else if page.Next == "" {
					before = n
				}
			}
		})
	}
	for b := range uint64(batches) {
		l.add(entries(epochs[1], b*batch+1, b*batch+batch)...)
		last, err := l.LastSeq(t.Context(), epochs[1])
		if want := proto.Number(b*batch+batch, 0); err != nil || last != want {
			t.Errorf("after batch %d: the last number is %d, %v, want %d", b, last, err, want)
		}
	}
	stop()
	readers.Wait()
	l.sound()
}

// A row is what was appended, to the byte, whatever it has; the columns are what SELECT shows a person.
func TestRowsToTheByte(t *testing.T) {
	l := newLog(t)
	var want []store.Row
	for i, text := range []string{
		"", " ", "\n", `{"a":1}`, `"quoted"`, "null", "'; DELETE FROM messages; --", "\u2028\u2029\ufeff",
		strings.Repeat("ä", 40_000),
		// The last one is not UTF-8.
		"\x01\x1f\x7f", "🎉👩‍👩‍👧", "%s%d\\", `\u0000`, "-- ", "x'00'", fmt.Sprint(1e300), "\xf0\x9f",
	} {
		r := entry(epochs[1], uint64(i+1), "it's.a'channel", text)
		r.Sender, r.Event, r.Source = text, text, "2001:db8::1"
		if strings.ContainsRune(text, 0) {
			t.Fatal("a NUL is written as an escape")
		}
		want = append(want, r)
	}
	l.add(want...)
	if got := l.rows(store.Filter{Asc: true}); !slices.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("row %d: got %.200q, want %.200q", i, got[i].Message, want[i].Message)
			}
		}
	}
	for i := range want {
		if want[i].Sender == "" {
			continue // in a filter that is no limit
		}
		if got := l.seqs(store.Filter{Sender: want[i].Sender, Event: want[i].Event}); len(got) != 1 ||
			got[0] != uint64(i+1) {
			t.Errorf("by sender %.40q: got %v, want row %d", want[i].Sender, got, i+1)
		}
	}
	l.sound()
}
