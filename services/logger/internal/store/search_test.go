package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	for _, indexed := range []bool{false, true} {
		if indexed {
			sealAll(t, s)
		}
		for _, c := range []struct {
			q    string
			want string
		}{
			{"disk", "1 2"}, {"DISK", "1 2"}, {"disk*", "1 2 3 5"}, {"disk full", "1 2"}, {"full disk", "1 2"},
			{"full*", "1 2 5 9"}, {"web-1", "1"}, {"web-*", "1 2"}, {"user_id", "4"}, {"id_user", ""}, {"4711", "4"}, {"47*", "4"},
			{"café", "4 6"}, {"cafe", ""}, {"nbreak", ""}, {"break", "4"}, {"u00e9", ""}, {"ünïcödé", "6"},
			{"北京", "7"}, {"京北", ""}, {"在", "7"}, {"or", "8"}, {"OR", "8"}, {"disk OR plain", ""}, {"near", "8"},
			{"disk NOT full", ""}, {`"quoted"`, "8"}, {"col:value", "8"}, {"message:disk", ""}, {"new", "9"}, {"-disk", "1 2"},
			{`disk" OR "1"="1`, ""}, {"^disk", "1 2"}, {"(disk)", "1 2"}, {"disk & full", "1 2"}, {"d*sk", ""}, {"missing", ""},
		} {
			var got []string
			for _, id := range all(t, s, Filter{Search: c.q, Asc: true}) {
				_, seq, _ := strings.Cut(id, "-")
				got = append(got, seq)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("indexed %v: %q finds %v, want %s", indexed, c.q, got, c.want)
			}
		}
	}
}

func TestSearchThatNobodyCanAnswer(t *testing.T) {
	for _, q := range []string{"*", "\"", "-- ' \"", "\xff", strings.Repeat("x", MaxSearchBytes+1), strings.Repeat("a ", maxSearchWords+1)} {
		if err := (Filter{Search: q}).Check(); !errors.Is(err, ErrSearch) {
			t.Errorf("search %.20q: got %v, want ErrSearch", q, err)
		}
	}
}

// sealAll puts every row into the index, also those that make no full segment.
func sealAll(t testing.TB, s *Store) {
	t.Helper()
	epochs, err := s.Epochs(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range epochs {
		if _, err := s.indexEpoch(context.Background(), e.Epoch, false); err != nil {
			t.Fatalf("index: %v", err)
		}
	}
}

var vocabulary = strings.Fields("disk full web error warning user login logout order paid Disk-7 köln 北京 {\"a\":1} user_id zz zebra")

// randomRows makes rows with gaps, in two epochs.
func randomRows(rng *rand.Rand, n int) []Row {
	var out []Row
	channels := []string{"orders.eu", "orders.us", "orders.eu.paid", "user.1", "user.22", "a", "a." + strings.Repeat("long", 30), "a." + strings.Repeat("long", 30) + ".x"}
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
		Channel: pick("", "", "orders.eu", "orders.>", "orders.*", "*.eu", "user.*", "a.>", ">", "a."+strings.Repeat("long", 30)),
		Sender:  pick("", "", "shop", "nobody"),
		Event:   pick("", "", "created"),
		Search:  pick("", "", "disk", "di*", "z*", "user_id", "error warning", "北京", "disk full", "7", "a"),
		Asc:     rng.IntN(2) == 0,
		Limit:   20 + rng.IntN(400),
	}
	if rng.IntN(4) == 0 {
		f.Allowed = [][]string{{"orders.>"}, {"user.1", "a"}, {}, {"*"}, {">"}}[rng.IntN(5)]
	}
	if rng.IntN(4) == 0 {
		f.After = start.Add(time.Duration(rng.IntN(9000)) * time.Second)
	}
	if rng.IntN(4) == 0 {
		f.Before = start.Add(time.Duration(rng.IntN(9000)) * time.Second)
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
	want := randomRows(rng, 12_000)
	late := want[5000:5050] // a redelivery: they come when their neighbours are indexed
	appendAll(t, s, want[:5000])
	appendAll(t, s, want[5050:])
	have := slices.Concat(want[:5000], want[5050:])
	filters := 15
	check := func(state string) {
		t.Helper()
		for range filters {
			f := randomFilter(rng)
			wantIDs := plainly(t, have, f)
			if got := all(t, s, f); !slices.Equal(got, wantIDs) {
				t.Fatalf("%s: %+v\ngot  %d rows %.200v\nwant %d rows %.200v", state, f, len(got), got, len(wantIDs), wantIDs)
			}
			var exported []string
			if err := s.Export(ctx, f, func(r *Row) error { exported = append(exported, r.ID()); return nil }); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(exported, wantIDs) && len(wantIDs) > 0 {
				t.Fatalf("%s: export of %+v: got %d rows, want %d", state, f, len(exported), len(wantIDs))
			}
		}
	}
	check("no index")
	if n := index(t, s); n != 3 {
		t.Errorf("segments: got %d, want one full of the growing epoch and both of the other", n)
	}
	check("full segments")
	if n := index(t, s); n != 0 {
		t.Errorf("index again: got %d segments, want none", n)
	}
	appendAll(t, s, late)
	have = want
	check("late rows")
	if n := index(t, s); n != 1 {
		t.Errorf("segments after late rows: got %d, want the one that they belong to", n)
	}
	check("late rows indexed")
	appendAll(t, s, late)
	if n := index(t, s); n != 0 {
		t.Errorf("segments after a redelivery: got %d, want none", n)
	}
	if _, err := s.Retain(ctx, time.Hour, 0, start.Add(time.Hour+1500*time.Second)); err != nil {
		t.Fatal(err)
	}
	have = slices.DeleteFunc(slices.Clone(want), func(r Row) bool { return r.Timestamp < proto.FormatTime(start.Add(1500*time.Second)) })
	check("retention")
	if _, err := s.writer.Exec("UPDATE terms SET entries = x'ff01' WHERE segment = (SELECT min(segment) FROM terms)"); err != nil {
		t.Fatal(err)
	}
	check("a damaged segment")
	s.pageTime, filters = 0, 5
	check("pages cut short")
	checkIntegrity(t, s)
}

// A row that comes, or goes, while a segment is made keeps it from being
// written: the index would not know of the row.
func TestSegmentOfRowsThatChangedIsNotWritten(t *testing.T) {
	ctx := context.Background()
	for name, change := range map[string]func(*Store) error{
		"late row": func(s *Store) error {
			_, err := s.Append(ctx, rows(epochA, 50, 50))
			return err
		},
		"retention": func(s *Store) error {
			_, err := s.Retain(ctx, time.Hour, 0, start.Add(time.Hour+10*time.Second))
			return err
		},
		"both": func(s *Store) error {
			_, err := s.Append(ctx, rows(epochA, 50, 50))
			if err == nil {
				_, err = s.writer.Exec("DELETE FROM messages WHERE seq = 1")
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			appendAll(t, s, append(rows(epochA, 1, 49), rows(epochA, 51, 100)...))
			seg, _, err := s.build(ctx, epochA, span{0, 100})
			if err != nil {
				t.Fatal(err)
			}
			if err := change(s); err != nil {
				t.Fatal(err)
			}
			if err := s.put(ctx, epochA, seg); !errors.Is(err, errMoved) {
				t.Errorf("got %v, want errMoved", err)
			}
			sealAll(t, s)
			if got, want := len(all(t, s, Filter{Search: "disk"})), scalar(t, s, "SELECT count(*) FROM messages"); got != want {
				t.Errorf("search: got %d rows, want %d", got, want)
			}
		})
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
	appendAll(t, s, rows(epochA, 1, 2500))
	next, got := uint64(2501), 0
	err := s.Export(context.Background(), Filter{Asc: true}, func(*Row) error {
		got++
		appendAll(t, s, rows(epochA, next, next))
		next++
		return nil
	})
	if err != nil || got != 2500 {
		t.Errorf("got %d rows, %v, want the 2500 that were there", got, err)
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
		{Filter{Cursor: "a-18446744073709551615"}, proto.ErrCursor}, {Filter{Limit: MaxLimit + 1}, ErrFilter}, {Filter{Limit: -1}, ErrFilter},
		{Filter{After: time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -5*3600))}, ErrFilter},
	} {
		if _, err := newStore(t).Query(context.Background(), c.f); !errors.Is(err, c.want) {
			t.Errorf("%+v: got %v, want %v", c.f, err, c.want)
		}
	}
}
