package store_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/logger/internal/store"
)

// A row goes when it is older than the limit, and not before: to the millisecond, by its own time and not by its place.
func TestRetentionByAgeToTheMillisecond(t *testing.T) {
	l := newLog(t)
	stamped := func(seq uint64, at time.Time) store.Row {
		r := entry(epochs[1], seq, "a", "text")
		r.Timestamp = proto.FormatTime(at)
		return r
	}
	l.add(
		stamped(1, noon.Add(-time.Hour-time.Millisecond)),
		stamped(2, noon.Add(-time.Hour)),
		stamped(3, noon.Add(-time.Hour+time.Millisecond)),
		stamped(4, noon.Add(time.Hour)),           // a clock that is fast
		stamped(5, noon.Add(-30*24*time.Hour)),    // a clock that is slow
		stamped(6, time.Unix(0, 0)),               // no clock at all
		stamped(7, noon.Add(-59*time.Minute)),     // young
		stamped(8, noon.AddDate(7000, 0, 0)),      // absurd
		stamped(9, noon.Add(-2*365*24*time.Hour)), // of a publisher that sends what it kept
	)
	for _, c := range []struct {
		age  time.Duration
		now  time.Time
		gone int
		left string
	}{
		{0, noon, 0, "1 2 3 4 5 6 7 8 9"},
		{100 * 365 * 24 * time.Hour, noon, 0, "1 2 3 4 5 6 7 8 9"},
		{time.Hour, noon, 4, "2 3 4 7 8"},
		{time.Hour, noon, 0, "2 3 4 7 8"},
		{time.Hour, noon.Add(time.Millisecond), 1, "3 4 7 8"},
		{time.Nanosecond, noon.Add(time.Hour), 2, "4 8"},
		{time.Millisecond, noon.Add(2 * time.Hour), 1, "8"},
	} {
		if n, err := l.Retain(t.Context(), c.age, 0, c.now); err != nil || n != c.gone {
			t.Errorf("%s at %s: got %d rows deleted, %v, want %d", c.age, c.now, n, err, c.gone)
		}
		if got := numbers(l.seqs(store.Filter{Asc: true})); got != c.left {
			t.Errorf("%s at %s: left is %s, want %s", c.age, c.now, got, c.left)
		}
		if got := numbers(l.seqs(store.Filter{Asc: true, Search: "text"})); got != c.left {
			t.Errorf("%s at %s: the search finds %s, want %s", c.age, c.now, got, c.left)
		}
	}
	l.sound()
}

// By size the oldest go first, epoch by epoch, no more than has to; and the file comes down to the limit.
func TestRetentionBySize(t *testing.T) {
	l := newLog(t)
	const each = 1600 / store.Fewer
	text := strings.Repeat("some words of a message that takes room ", 20)
	for _, epoch := range []string{epochs[1], epochs[2]} {
		for first := uint64(1); first <= each; first += 100 {
			rows := entries(epoch, first, min(first+99, each))
			for i := range rows {
				rows[i].Message += " " + text
			}
			l.add(rows...)
		}
	}
	used := func() int64 {
		return l.number("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, " +
			"pragma_freelist_count, pragma_page_size")
	}
	whole := used()
	if n, err := l.Retain(t.Context(), 0, whole, noon); err != nil || n != 0 {
		t.Errorf("with room for everything: got %d rows deleted, %v", n, err)
	}
	for _, share := range []int64{90, 60, 40, 15} {
		limit := whole * share / 100
		if _, err := l.Retain(t.Context(), 0, limit, noon); err != nil {
			t.Fatal(err)
		}
		if got := used(); got > limit || got < limit/2 {
			t.Errorf("a limit of %d%%: the file holds %d of %d bytes", share, got, limit)
		}
		rows := l.rows(store.Filter{Limit: store.MaxLimit}) // newest first: what is left is an end of the stream
		for i, r := range rows {
			want := store.Row{Epoch: epochs[2], Seq: proto.Number(uint64(each-i), 0)}
			if i >= each {
				want = store.Row{Epoch: epochs[1], Seq: proto.Number(uint64(2*each-i), 0)}
			}
			if r.ID() != want.ID() {
				t.Fatalf("a limit of %d%%: row %d from the end is %s, want %s", share, i, r.ID(), want.ID())
			}
		}
	}
	if info, err := os.Stat(l.path); err != nil || info.Size() > used()+2<<20 {
		t.Errorf("the file has %d bytes, %v, of which %d are used", info.Size(), err, used())
	}
	if n, err := l.Retain(t.Context(), 0, 1, noon); err != nil || l.count() != 0 {
		t.Errorf("a limit of one byte: got %d rows deleted, %v, %d left, want none", n, err, l.count())
	}
	l.add(entries(epochs[2], each+1, each+3)...)
	if got := l.count(); got != 3 {
		t.Errorf("after everything went: got %d rows, want the 3 new ones", got)
	}
	l.sound()
}

// What retention takes is accounted for: the holes that were there are counted once, and what comes again is a row once
// more.
func TestRetentionAndTheAccount(t *testing.T) {
	ctx := t.Context()
	l := newLog(t)
	if _, err := l.Begin(ctx, epochs[1], 1); err != nil {
		t.Fatal(err)
	}
	rows := entries(epochs[1], 1, 20)
	l.add(append(rows[:4:4], rows[6:]...)...) // 5 and 6 never came
	if _, err := l.Retain(ctx, 10*time.Second, 0, noon.Add(21*time.Second)); err != nil {
		t.Fatal(err) // takes 1 to 10
	}
	all, err := l.Epochs(ctx)
	if err != nil || len(all) != 1 || all[0] != (store.Epoch{Epoch: epochs[1], First: 1, Accounted: 10, Holes: 2}) {
		t.Errorf("got %+v, %v, want 10 accounted for, with 2 holes", all, err)
	}
	if holes, err := l.Account(ctx, epochs[1], 10); err != nil || holes != 0 {
		t.Errorf("account up to what is accounted for: got %d more holes, %v", holes, err)
	}
	if holes, err := l.Account(ctx, epochs[1], 25); err != nil || holes != 5 {
		t.Errorf("account up to 25: got %d holes, %v, want 21 to 25", holes, err)
	}
	if n, err := l.Append(ctx, rows[:5]); err != nil || n != 5 {
		t.Errorf("a redelivery of what went: got %d rows, %v, want 5", n, err)
	}
	if seq, ok, err := l.Missing(ctx, epochs[1], 40); err != nil || !ok || seq != 26 {
		t.Errorf("missing: got %d, %v, %v, want 26", seq, ok, err)
	}
	l.sound()
}

// Retention, appends and queries at once: nobody gets an error, and nobody sees half of a transaction.
func TestRetentionBesideEverythingElse(t *testing.T) {
	l := newLog(t)
	const batches, size = 60 / store.Fewer * 2, 20
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 3 {
		others.Go(func() {
			for ctx.Err() == nil {
				page, err := l.Query(context.WithoutCancel(ctx), store.Filter{Search: "order", Limit: store.MaxLimit})
				if err != nil {
					t.Error(err)
					return
				}
				if len(page.Rows)%size != 0 { // both sides work in whole batches here
					t.Errorf("a query sees %d rows, which is part of a transaction", len(page.Rows))
				}
			}
		})
	}
	others.Go(func() {
		for ctx.Err() == nil {
			if _, err := l.Epochs(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)
			}
			if _, err := l.FileBytes(); err != nil {
				t.Error(err)
			}
		}
	})
	for batch := range uint64(batches) {
		rows := entries(epochs[1], batch*size+1, batch*size+size)
		for i := range rows {
			rows[i].Timestamp = proto.FormatTime(noon.Add(time.Duration(batch) * time.Minute))
		}
		l.add(rows...)
		if _, err := l.Retain(t.Context(), 10*time.Minute, 0, noon.Add(time.Duration(batch)*time.Minute)); err != nil {
			t.Error(err)
		}
	}
	stop()
	others.Wait()
	if got, want := l.count(), int64(min(batches, 11)*size); got != want {
		t.Errorf("got %d rows, want the %d of the last ten minutes", got, want)
	}
	l.sound()
}
