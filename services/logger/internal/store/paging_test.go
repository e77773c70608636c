package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/logger/internal/store"
)

// Rows of several epochs come in stream order, whatever the order in which they were stored, and every limit cuts them
// into pages that together are the whole.
func TestPagesTogetherAreTheWhole(t *testing.T) {
	l := newLog(t)
	var want []string
	for _, epoch := range []string{epochs[2], epochs[0], epochs[3], epochs[1]} { // as nobody would store them
		rows := entries(epoch, 1, 7)
		slices.Reverse(rows)
		l.add(rows...)
	}
	for _, epoch := range epochs {
		for _, r := range entries(epoch, 1, 7) {
			want = append(want, r.ID())
		}
	}
	for limit := 1; limit <= len(want)+1; limit++ {
		for _, asc := range []bool{true, false} {
			var got []string
			f := store.Filter{Asc: asc, Limit: limit}
			for {
				page, err := l.Query(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				if len(page.Rows) > limit || page.Next != "" && len(page.Rows) != limit {
					t.Errorf("limit %d: a page of %d rows with next %q", limit, len(page.Rows), page.Next)
				}
				for i := range page.Rows {
					got = append(got, page.Rows[i].ID())
				}
				if f.Cursor = page.Next; f.Cursor == "" {
					break
				}
			}
			if !asc {
				slices.Reverse(got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("limit %d, oldest first %v: got %v", limit, asc, got)
			}
		}
	}
}

// A cursor is a place and not a row: that of a row which never was or is gone goes on from there.
func TestCursorsOfRowsThatAreNotThere(t *testing.T) {
	l := newLog(t)
	l.add(entries(epochs[1], 10, 19)...)
	l.add(entries(epochs[2], 1, 5)...)
	id := func(epoch string, seq uint64) string {
		return proto.Cursor{Epoch: epoch, Seq: proto.Number(seq, 0)}.String()
	}
	for _, c := range []struct {
		name, cursor  string
		older, newer  int // how many rows are on either side
		thereIsTheRow bool
	}{
		{"a row", id(epochs[1], 12), 2, 12, true},
		{"before every row of its epoch", id(epochs[1], 3), 0, 15, false},
		{"after every row of its epoch", id(epochs[1], 90), 10, 5, false},
		{"before every epoch", id(epochs[0], 5), 0, 15, false},
		{"between two epochs", id("mib3zzzz", 5), 10, 5, false},
		{"after every epoch", id(epochs[3], 5), 15, 0, false},
		{"a place in a pack that has one message", proto.Cursor{Epoch: epochs[1], Seq: proto.Number(12, 500)}.String(),
			3, 12, false},
		{"the highest number", proto.Cursor{Epoch: epochs[1], Seq: 1<<63 - 1}.String(), 10, 5, false},
		{"number 0", proto.Cursor{Epoch: epochs[2]}.String(), 10, 5, false},
	} {
		older, newer := l.rows(store.Filter{Cursor: c.cursor}), l.rows(store.Filter{Cursor: c.cursor, Asc: true})
		if len(older) != c.older || len(newer) != c.newer {
			t.Errorf("%s: got %d older and %d newer rows, want %d and %d", c.name, len(older), len(newer),
				c.older, c.newer)
		}
		if got, want := len(older)+len(newer), 15; !c.thereIsTheRow && got != want || c.thereIsTheRow && got != want-1 {
			t.Errorf("%s: both sides have %d rows", c.name, got)
		}
	}
	// 10 to 14, and all of the later epoch
	if _, err := l.Retain(t.Context(), time.Minute, 0, noon.Add(time.Minute+15*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := numbers(l.seqs(store.Filter{Cursor: id(epochs[1], 12), Asc: true})); got != "15 16 17 18 19" {
		t.Errorf("from a row that retention took: got %s", got)
	}
}

// While rows are stored all the time, at the end, late in the middle, and in a new epoch, somebody who pages sees each
// row that was there when they began once, in order, and those that came later at most once.
func TestPagingUnderInsertion(t *testing.T) {
	const before, after = 600 / store.Fewer, 300 / store.Fewer
	for _, asc := range []bool{true, false} {
		t.Run(fmt.Sprintf("oldest first %v", asc), func(t *testing.T) {
			l := newLog(t)
			var late []store.Row // gaps that are filled meanwhile
			for _, r := range entries(epochs[1], 1, before) {
				if proto.PackOf(r.Seq)%10 == 0 {
					late = append(late, r)
				} else {
					l.add(r)
				}
			}
			ctx, stop := context.WithCancel(t.Context())
			var writer sync.WaitGroup
			writer.Go(func() {
				for i := uint64(1); i <= after && ctx.Err() == nil; i++ {
					batch := []store.Row{entry(epochs[1], before+i, "orders", "new")}
					if i%3 == 0 {
						batch = append(batch, entry(epochs[2], i, "orders", "new epoch"))
					}
					if len(late) > 0 {
						batch, late = append(batch, late[0]), late[1:]
					}
					if _, err := l.Append(context.WithoutCancel(ctx), batch); err != nil {
						t.Error(err)
					}
				}
			})
			for range 3 {
				seen := map[string]bool{}
				old := 0
				rows := l.rows(store.Filter{Asc: asc, Limit: 7})
				for i, r := range rows {
					if seen[r.ID()] {
						t.Errorf("%s comes twice", r.ID())
					}
					seen[r.ID()] = true
					if seq := proto.PackOf(r.Seq); r.Epoch == epochs[1] && seq <= before && seq%10 != 0 {
						old++
					}
					if i > 0 && (r.Epoch == rows[i-1].Epoch && (r.Seq > rows[i-1].Seq) != asc ||
						(r.Epoch > rows[i-1].Epoch) != asc && r.Epoch != rows[i-1].Epoch) {
						t.Errorf("%s comes behind %s", r.ID(), rows[i-1].ID())
					}
				}
				if want := before - before/10; old != want {
					t.Errorf("got %d of the rows that were there, want %d", old, want)
				}
			}
			stop()
			writer.Wait()
			l.sound()
		})
	}
}

// An export is every row that was there, in order, also beyond the highest limit of a page; the caller's error and the
// context end it.
func TestExport(t *testing.T) {
	l := newLog(t)
	const n = store.MaxLimit + store.MaxLimit/2
	l.add(entries(epochs[1], 1, n)...)
	for _, asc := range []bool{true, false} {
		var got []uint64
		if err := l.Export(t.Context(), store.Filter{Asc: asc, Limit: 3, Search: "order"}, func(r *store.Row) error {
			got = append(got, proto.PackOf(r.Seq))
			return nil
		}); err != nil || len(got) != n || !slices.IsSortedFunc(got, func(a, b uint64) int {
			if asc {
				return int(a) - int(b)
			}
			return int(b) - int(a)
		}) {
			t.Errorf("oldest first %v: got %d rows, %v, want %d in order", asc, len(got), err, n)
		}
	}
	enough := errors.New("enough")
	calls := 0
	if err := l.Export(t.Context(), store.Filter{}, func(*store.Row) error {
		if calls++; calls == 5 {
			return enough
		}
		return nil
	}); err != enough || calls != 5 {
		t.Errorf("got %v after %d rows, want the caller's error after 5", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	if err := l.Export(ctx, store.Filter{}, func(*store.Row) error {
		if calls++; calls == 5 {
			cancel()
		}
		return nil
	}); !errors.Is(err, context.Canceled) || calls > store.MaxLimit {
		t.Errorf("got %v after %d rows, want the context's error within a page", err, calls)
	}
	if err := newLog(t).Export(t.Context(), store.Filter{}, func(*store.Row) error { return enough }); err != nil {
		t.Errorf("an empty log: got %v", err)
	}
	if _, err := l.Query(ctx, store.Filter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a query after its context: got %v", err)
	}
}
