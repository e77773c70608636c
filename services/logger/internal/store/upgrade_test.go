package store_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/logger/internal/store"
)

// first is the schema of the first release of the log, as its files have it.
func first(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("migrations/0001_log.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "; PRAGMA user_version = 1;"
}

// insert writes rows as a file of any version has them.
func insert(rows ...store.Row) string {
	var b strings.Builder
	for _, r := range rows {
		quoted := []any{}
		for _, v := range []string{r.Message, r.Sender, r.Timestamp, r.Channel, r.Event, r.ID(), r.Epoch} {
			quoted = append(quoted, strings.ReplaceAll(v, "'", "''"))
		}
		fmt.Fprintf(&b, "INSERT INTO messages (message, sender, timestamp, channel, event, id, epoch, seq, "+
			"source) VALUES ('%s', '%s', '%s', '%s', '%s', '%s', '%s', ",
			quoted...)
		fmt.Fprintf(&b, "%d, '%s');", r.Seq, r.Source)
	}
	return b.String()
}

// Files of every version that there was, empty or with rows, in order or not, have the schema of today once they are
// opened; their rows stay as they are, and are found by their words.
func TestOlderFilesAreBroughtUpToDate(t *testing.T) {
	odd := entry(epochs[2], 3, "it's.odd", "it's \"odd\"\nand has 北京 in it")
	rows := slices.Concat(entries(epochs[2], 5, 9), entries(epochs[1], 1, 4), []store.Row{odd})
	account := fmt.Sprintf("INSERT INTO epochs (epoch, first, accounted, holes) VALUES ('%s', 1, 4, 0), "+
		"('%s', 3, 9, 1);", epochs[1], epochs[2])
	for _, c := range []struct {
		name, statements string
		rows             []store.Row
	}{
		{"a file of no bytes", "", nil},
		{"a database without tables", "PRAGMA journal_mode = WAL; CREATE TABLE x (y); DROP TABLE x", nil},
		{"version 1 without rows", first(t), nil},
		{"version 1 with rows", first(t) + insert(rows...) + account, rows},
		{"version 1 with an index of then", first(t) + insert(rows...) + account +
			"INSERT INTO segments VALUES (1, 'mib3k2x9', 1, 4, 'a', 'b'); INSERT INTO terms VALUES (1, x'00', x'01')",
			rows},
		{"version 1 in a WAL", "PRAGMA journal_mode = WAL;" + first(t) + insert(rows...) + account, rows},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "herald.db")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.statements != "" {
				exec(t, path, c.statements)
			}
			if r, err := store.OpenReader(t.Context(), path); !errors.Is(err, store.ErrVersion) {
				t.Errorf("read as it is: got %v, want ErrVersion", err)
				_ = r.Close()
			}
			hadRows := len(c.rows) > 0
			for again := range 2 { // the second finds nothing to do
				l := openLog(t, path)
				got := l.rows(store.Filter{Asc: true})
				want := slices.SortedFunc(slices.Values(c.rows), func(a, b store.Row) int {
					return cmp.Or(slices.Index(epochs, a.Epoch)-slices.Index(epochs, b.Epoch), int(a.Seq)-int(b.Seq))
				})
				if !slices.Equal(got, want) {
					t.Errorf("time %d: got\n%+v, want\n%+v", again, got, want)
				}
				if hadRows {
					if got := numbers(l.seqs(store.Filter{Search: "北京", Channel: "*.odd"})); got != "3" {
						t.Errorf("search: got %s, want 3", got)
					}
					if got := numbers(l.seqs(store.Filter{Search: "n7"})); got != "7" {
						t.Errorf("search: got %s, want 7", got)
					}
					all, err := l.Epochs(t.Context())
					if err != nil || len(all) < 2 ||
						all[1] != (store.Epoch{Epoch: epochs[2], First: 3, Accounted: 9, Holes: 1}) {
						t.Errorf("accounts: got %+v, %v", all, err)
					}
				}
				if n, err := l.Append(t.Context(), entries(epochs[3], 1, 2)); err != nil || n != 2*(1-again) {
					t.Errorf("append: got %d new rows, %v", n, err)
				}
				if again == 0 {
					c.rows = append(slices.Clone(c.rows), entries(epochs[3], 1, 2)...)
				}
				l.sound()
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// An upgrade that was ended in its middle is gone on with, at each of its transactions: the schema without the index,
// and the index without some of its rows.
func TestAnUpgradeThatWasEndedIsGoneOnWith(t *testing.T) {
	const n = 2500 / store.Fewer
	rows := entries(epochs[1], 1, n)
	path := filepath.Join(t.TempDir(), "herald.db")
	exec(t, path, "BEGIN;"+first(t)+insert(rows...)+
		fmt.Sprintf("INSERT INTO epochs (epoch, first, accounted, holes) VALUES ('%s', 1, %d, 0); COMMIT",
			epochs[1], n))
	openLog(t, path).Close()
	for _, left := range []uint64{n, n / 2, 1} { // the rows up to left have no index
		exec(t, path,
			fmt.Sprintf("BEGIN; DELETE FROM words WHERE rowid & %d <= %d; UPDATE epochs SET unindexed = %[2]d; COMMIT",
				int64(1)<<48-1, proto.Number(left, 0)))
		l := openLog(t, path)
		l.sound()
		if got := len(l.rows(store.Filter{Search: "order", Limit: store.MaxLimit})); got != n {
			t.Errorf("index up to %d missing: the search finds %d rows, want %d", left, got, n)
		}
		l.Close()
	}
}

// A file of a later version is left alone, by who writes and by who reads; the error says what to do.
func TestLaterFilesAreLeftAlone(t *testing.T) {
	l := newLog(t)
	l.add(entries(epochs[1], 1, 3)...)
	l.Close()
	exec(t, l.path, "CREATE TABLE future (x); PRAGMA user_version = 3")
	before := content(t, l.path)
	if _, err := store.Open(t.Context(), l.path); !errors.Is(err, store.ErrVersion) ||
		!strings.Contains(err.Error(), "use a newer Herald") {
		t.Errorf("open: got %v", err)
	}
	if _, err := store.OpenReader(t.Context(), l.path); !errors.Is(err, store.ErrVersion) {
		t.Errorf("read: got %v", err)
	}
	if err := store.CheckWritable(t.Context(), l.path); !errors.Is(err, store.ErrVersion) {
		t.Errorf("CheckWritable: got %v", err)
	}
	if after := content(t, l.path); !slices.Equal(before, after) {
		t.Error("the file changed")
	}
}

// content is a file without the two counters of its header that SQLite raises when a pragma writes what is there
// already.
func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[24:28])
	clear(b[92:96])
	return b
}
