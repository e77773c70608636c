package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

func TestSearchWords(t *testing.T) {
	s := newStore(t)
	for i, message := range []string{
		1: `disk full on web-1`,
		2: `{"text":"Disk almost FULL","host":"web-2"}`,
		3: `diskette`,
		4: `{"user_id":4711,"name":"caf\u00e9","note":"line\nbreak \ud83d\ude00"}`,
		5: `full of disks`,
		6: `Ünïcödé CAFÉ`,
		7: `我在北京`,
		8: `OR AND NOT NEAR "quoted" col:value`,
		9: `plain C:\new\full.txt`,
	} {
		if message != "" {
			appendAll(t, s, []Row{row(epochA, uint64(i), "a", message)})
		}
	}
	for _, c := range []struct {
		q    string
		want string
	}{
		{"disk", "1 2"}, {"DISK", "1 2"}, {"disk*", "1 2 3 5"}, {"disk full", "1 2"}, {"full disk", "1 2"},
		{"full*", "1 2 5 9"}, {"web-1", "1"}, {"web-*", "1 2"}, {"user_id", "4"}, {"id_user", ""}, {"4711", "4"},
		{"47*", "4"},
		{"café", "4 6"}, {"cafe", ""}, {"nbreak", ""}, {"break", "4"}, {"u00e9", ""}, {"ünïcödé", "6"},
		{"北京", "7"}, {"京北", ""}, {"在", "7"}, {"or", "8"}, {"OR", "8"}, {"disk OR plain", ""}, {"near", "8"},
		{"disk NOT full", ""}, {`"quoted"`, "8"}, {"col:value", "8"}, {"message:disk", ""}, {"new", "9"},
		{"-disk", "1 2"},
		{`disk" OR "1"="1`, ""}, {"^disk", "1 2"}, {"(disk)", "1 2"}, {"disk & full", "1 2"}, {"d*sk", ""},
		{"missing", ""},
	} {
		var got []string
		for _, id := range all(t, s, Filter{Search: c.q, Asc: true}) {
			_, seq, _ := strings.Cut(id, "-")
			got = append(got, seq)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q finds %v, want %s", c.q, got, c.want)
		}
	}
}

func TestSearchThatNobodyCanAnswer(t *testing.T) {
	for _, q := range []string{"*", "\"", "-- ' \"", "\xff", strings.Repeat("x", MaxSearchBytes+1),
		strings.Repeat("a ", maxSearchWords+1)} {
		if err := (Filter{Search: q}).Check(); !errors.Is(err, ErrSearch) {
			t.Errorf("search %.20q: got %v, want ErrSearch", q, err)
		}
	}
}

var vocabulary = strings.Fields(
	"disk full web error warning user login logout order paid Disk-7 köln 北京 {\"a\":1} user_id zz zebra")

// randomRows makes rows with gaps, in two epochs.
func randomRows(rng *rand.Rand, n int) []Row {
	var out []Row
	channels := []string{"orders.eu", "orders.us", "orders.eu.paid", "user.1", "user.22", "a",
		"a." + strings.Repeat("long", 30), "a." + strings.Repeat("long", 30) + ".x"}
	seq := uint64(0)
	for i := range n {
		epoch := epochA
		if i >= n/2 {
			if epoch = epochB; i == n/2 {
				seq = 0
			}
		}
		seq += 1 + uint64(rng.IntN(3))
		var words []string
		for range rng.IntN(6) {
			words = append(words, vocabulary[rng.IntN(len(vocabulary))])
		}
		r := row(epoch, seq, channels[rng.IntN(len(channels))], strings.Join(words, " "))
		r.Sender = []string{"shop", "web", "x"}[rng.IntN(3)]
		r.Event = []string{"message", "created"}[rng.IntN(2)]
		out = append(out, r)
	}
	return out
}

func randomFilter(rng *rand.Rand) Filter {
	pick := func(values ...string) string { return values[rng.IntN(len(values))] }
	f := Filter{
		Channel: pick("", "", "orders.eu", "orders.>", "orders.*", "*.eu", "user.*", "a.>", ">",
			"a."+strings.Repeat("long", 30)),
		Sender: pick("", "", "shop", "nobody"),
		Event:  pick("", "", "created"),
		Search: pick("", "", "disk", "di*", "z*", "user_id", "error warning", "北京", "disk full", "7", "a"),
		Asc:    rng.IntN(2) == 0,
		Limit:  20 + rng.IntN(400),
	}
	if rng.IntN(4) == 0 {
		f.Allowed = [][]string{{"orders.>"}, {"user.1", "a"}, {}, {"*"}, {">"}}[rng.IntN(5)]
	}
	if rng.IntN(4) == 0 {
		f.After = start.Add(time.Duration(rng.IntN(4000/fewer)) * time.Second)
	}
	if rng.IntN(4) == 0 {
		f.Before = start.Add(time.Duration(rng.IntN(4000/fewer)) * time.Second)
	}
	return f
}

// plainly answers a filter without index, order of pages or SQL.
func plainly(t *testing.T, rows []Row, f Filter) []string {
	t.Helper()
	m, err := f.compile()
	if err != nil {
		t.Fatal(err)
	}
	sorted := slices.Clone(rows)
	slices.SortFunc(sorted, func(a, b Row) int { return compareKeys(a.key(), b.key()) })
	out := []string{}
	for i := range sorted {
		if m.matches(&sorted[i]) {
			out = append(out, sorted[i].ID())
		}
	}
	if !f.Asc {
		slices.Reverse(out)
	}
	return out
}

// Whatever the state of the index, queries answer what reading all rows would.
func TestQueryIsExactInEveryStateOfTheIndex(t *testing.T) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 2))
	s := newStore(t)
	want := randomRows(rng, 5000/fewer)
	const cut = 2000 / fewer
	late := want[cut : cut+50] // a redelivery: they come when their neighbours are there
	appendAll(t, s, want[:cut])
	appendAll(t, s, want[cut+50:])
	have := slices.Concat(want[:cut], want[cut+50:])
	filters := 8 / min(fewer, 2)
	check := func(state string) {
		t.Helper()
		for range filters {
			f := randomFilter(rng)
			wantIDs := plainly(t, have, f)
			if got := all(t, s, f); !slices.Equal(got, wantIDs) {
				t.Fatalf("%s: %+v\ngot  %d rows %.200v\nwant %d rows %.200v", state, f, len(got), got,
					len(wantIDs), wantIDs)
			}
			var exported []string
			if err := s.Export(ctx, f,
				func(r *Row) error { exported = append(exported, r.ID()); return nil }); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(exported, wantIDs) && len(wantIDs) > 0 {
				t.Fatalf("%s: export of %+v: got %d rows, want %d", state, f, len(exported), len(wantIDs))
			}
		}
	}
	check("as it was written")
	appendAll(t, s, late)
	have = want
	check("late rows")
	changed := slices.Clone(late)
	for i := range changed {
		changed[i].Message = "zebra disk"
	}
	if n := appendAll(t, s, changed); n != 0 {
		t.Errorf("redelivery: got %d new rows, want none", n)
	}
	check("a redelivery with other words")
	if _, err := s.Retain(ctx, time.Hour, 0, start.Add(time.Hour+800/fewer*time.Second)); err != nil {
		t.Fatal(err)
	}
	have = slices.DeleteFunc(slices.Clone(want),
		func(r Row) bool { return r.Timestamp < proto.FormatTime(start.Add(800/fewer*time.Second)) })
	check("retention")
	if _, err := s.writer.Exec("UPDATE words_data SET block = x'00' WHERE id > 1000"); err != nil {
		t.Fatal(err)
	}
	check("a damaged index")
	s.pageTime, filters = 0, 5
	check("pages cut short")
	s.pageTime = defaultPageTime
	more := rows("mib5zzzz", 1, 1000)
	for at := range 10 { // the damage is met when SQLite merges, or at once
		appendAll(t, s, more[at*100:at*100+100])
	}
	have = append(have, more...)
	if err := s.rebuildIndex(ctx); err != nil {
		t.Fatal(err)
	}
	check("a rebuilt index")
	checkIntegrity(t, s)
}

// The log of a version before the index of today is indexed when it is opened.
func TestOpenIndexesAnOlderFile(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "old.db")
	db, err := sql.Open("sqlite", fileURI(path, url.Values{}))
	if err != nil {
		t.Fatal(err)
	}
	first, err := migrations.ReadFile("migrations/0001_log.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(first) + "; PRAGMA user_version = 1"); err != nil {
		t.Fatal(err)
	}
	want := randomRows(rand.New(rand.NewPCG(5, 6)), 2*indexRows+indexRows/2)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if _, err := tx.Exec(insertOne, want[i].appendArgs([]any{want[i].Epoch})...); err != nil {
			t.Fatal(err)
		}
	}
	for _, epoch := range []string{epochB, epochA} {
		if _, err := tx.Exec("INSERT INTO epochs VALUES (?, 1, 0, 0)", epoch); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tx.Commit(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(ctx, path); !errors.Is(err, ErrVersion) {
		t.Errorf("read the older file: got %v, want ErrVersion", err)
	}
	s := open(t, path)
	if got := scalar(t, s, "SELECT count(*) FROM words_docsize"); got != len(want) {
		t.Errorf("documents in the index: got %d, want %d", got, len(want))
	}
	for _, f := range []Filter{{Search: "disk"}, {Search: "full web", Asc: true}, {Channel: "orders.>"},
		{Sender: "x", Search: "z*"}} {
		if got, want := all(t, s, f), plainly(t, want, f); !slices.Equal(got, want) {
			t.Errorf("%+v: got %d rows, want %d", f, len(got), len(want))
		}
	}
	if got := scalar(t, s, "SELECT sum(unindexed) FROM epochs"); got != 0 {
		t.Errorf("rows without index: got up to %d, want none", got)
	}
}

// A search asks the index: its time does not grow with rows that have other
// words. It is judged by the rows that SQLite steps over, never by the clock.
func TestSearchReadsOnlyHits(t *testing.T) {
	s := newStore(t)
	appendAll(t, s, rows(epochA, 1, 5000))
	for _, f := range []Filter{
		{Search: "number4711"}, {Search: "number471*"}, {Channel: "orders.3", Search: "number4998"}, {Sender: "nobody"},
		{Channel: "absent.>"}, {Event: "created"}, {Allowed: []string{"nothing.here"}}, {Allowed: []string{}},
	} {
		m, err := f.compile()
		if err != nil {
			t.Fatal(err)
		}
		tx, err := s.readers.BeginTx(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		sc := &scan{matcher: m, tx: tx, deadline: time.Now().Add(time.Hour)}
		if f.Allowed == nil || len(f.Allowed) > 0 {
			seqs, err := sc.hits(context.Background(), "SELECT rowid FROM words WHERE words MATCH ?", m.match)
			if err != nil || len(seqs) > 20 {
				t.Errorf("%+v: the index names %d rows, %v, want a few", f, len(seqs), err)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if got, want := all(t, s, f), plainly(t, rows(epochA, 1, 5000), f); !slices.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v", f, got, want)
		}
	}
}

func TestSequencesBeyondTheIndexAreRefused(t *testing.T) {
	s := newStore(t)
	batch := rows(epochA, 1, 3)
	batch[2].Seq = maxSeq + 1
	if n, err := s.Append(context.Background(), batch); !errors.Is(err, ErrSequence) || n != 0 {
		t.Errorf("got %d rows, %v, want ErrSequence", n, err)
	}
	if got := scalar(t, s, "SELECT count(*) FROM messages"); got != 0 {
		t.Errorf("rows: got %d, want none of the batch", got)
	}
}

func TestPagesStandStillUnderInserts(t *testing.T) {
	s := newStore(t)
	appendAll(t, s, rows(epochA, 1, 100))
	for _, asc := range []bool{false, true} {
		f := Filter{Limit: 30, Asc: asc}
		first := query(t, s, f)
		end := scalar(t, s, "SELECT max(seq) FROM messages")
		appendAll(t, s, rows(epochA, uint64(end)+1, uint64(end)+50))
		f.Cursor = first.Next
		second := query(t, s, f)
		a, b := first.Rows[29].Seq, second.Rows[0].Seq
		if asc && b != a+1 || !asc && b != a-1 {
			t.Errorf("asc %v: the first page ends with %d, the second begins with %d", asc, a, b)
		}
	}
}

func TestPageIsBoundedInBytes(t *testing.T) {
	s := newStore(t)
	big := strings.Repeat("x", 1<<20)
	for seq := uint64(1); seq <= 20; seq++ {
		appendAll(t, s, []Row{row(epochA, seq, "a", big)})
	}
	p := query(t, s, Filter{})
	if len(p.Rows) != pageBytes>>20 || p.Next == "" {
		t.Errorf("got %d rows of 1 MiB, next %q, want %d and a next page", len(p.Rows), p.Next, pageBytes>>20)
	}
	if got := len(all(t, s, Filter{})); got != 20 {
		t.Errorf("all pages: got %d rows, want 20", got)
	}
}

func TestExportEndsThoughRowsKeepComing(t *testing.T) {
	s := newStore(t)
	appendAll(t, s, rows(epochA, 1, 1100))
	next, got := uint64(1101), 0
	err := s.Export(context.Background(), Filter{Asc: true}, func(*Row) error {
		if got++; got%20 == 0 {
			appendAll(t, s, rows(epochA, next, next))
			next++
		}
		return nil
	})
	if err != nil || got != 1100 {
		t.Errorf("got %d rows, %v, want the 1100 that were there", got, err)
	}
	stop := fmt.Errorf("stop")
	if err := s.Export(context.Background(), Filter{}, func(*Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the caller's error", err)
	}
}

func TestFiltersThatMakeNoSense(t *testing.T) {
	for _, c := range []struct {
		f    Filter
		want error
	}{
		{Filter{Channel: "a..b"}, proto.ErrChannel}, {Filter{Cursor: "1024"}, proto.ErrCursor},
		{Filter{Cursor: "a-18446744073709551615"}, proto.ErrCursor}, {Filter{Limit: MaxLimit + 1}, ErrFilter},
		{Filter{Limit: -1}, ErrFilter},
	} {
		if _, err := newStore(t).Query(context.Background(), c.f); !errors.Is(err, c.want) {
			t.Errorf("%+v: got %v, want %v", c.f, err, c.want)
		}
	}
}

// Any time may be asked for, also one that no row can have.
func TestTimesBeyondEveryRow(t *testing.T) {
	s := newStore(t)
	appendAll(t, s, rows(epochA, 1, 10))
	late, early := time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		f    Filter
		want int
	}{
		{Filter{After: late}, 0}, {Filter{Before: late}, 10}, {Filter{After: early}, 10}, {Filter{Before: early}, 0},
		{Filter{Before: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)}, 10},
		{Filter{After: time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -5*3600))}, 0},
		{Filter{After: start.Add(4 * time.Second), Before: start.Add(6 * time.Second)}, 2},
	} {
		if got := len(all(t, s, c.f)); got != c.want {
			t.Errorf("after %v before %v: got %d rows, want %d", c.f.After, c.f.Before, got, c.want)
		}
	}
}
