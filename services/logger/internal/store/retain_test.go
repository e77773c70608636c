package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

func TestRetainByAge(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	const many, old = 10_000 / fewer, 9000 / fewer
	appendAll(t, s, packs(epochA, 1, many))
	young := row(epochA, 3, "a", "young") // a clock that is wrong does not stop retention
	young.Epoch, young.Seq, young.Timestamp = epochA, proto.Number(many+1, 0), "2099-01-01T00:00:00.000Z"
	appendAll(t, s, []Row{young})
	appendAll(t, s, packs(epochA, many+2, many+100))
	now := start.Add(time.Hour + old*time.Second)
	n, err := s.Retain(ctx, time.Hour, 0, now)
	if err != nil || n != old-1 {
		t.Errorf("deleted: got %d, %v, want the %d rows before second %d", n, err, old-1, old)
	}
	if n, err = s.Retain(ctx, time.Hour, 0, now); err != nil || n != 0 {
		t.Errorf("again: got %d, %v, want 0", n, err)
	}
	if got := len(all(t, s, Filter{Search: "disk*", Limit: MaxLimit})); got != many+100-old {
		t.Errorf("search: got %d rows, want %d", got, many+100-old)
	}
	n, err = s.Retain(ctx, time.Hour, 0, now.Add(24*time.Hour))
	if err != nil || n != many+100-old {
		t.Errorf("the rest: got %d, %v, want all but the one of 2099", n, err)
	}
	for query, want := range map[string]int{
		"SELECT count(*) FROM messages": 1, "SELECT count(*) FROM words_docsize": 1,
		"SELECT holes FROM epochs": 0,
	} {
		if got := scalar(t, s, query); got != want {
			t.Errorf("%s: got %d, want %d", query, got, want)
		}
	}
	if n, err = s.Retain(ctx, 0, 0, now.Add(1e6*time.Hour)); err != nil || n != 0 {
		t.Errorf("without limits: got %d, %v, want 0", n, err)
	}
}

func TestRetainByBytesShrinksTheFile(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	text := strings.Repeat("x y z ", 100)
	for seq := uint64(1); seq <= 8000/fewer; seq += 1000 / fewer {
		batch := packs(epochA, seq, seq+999/fewer)
		if seq > 4000/fewer {
			batch = packs(epochB, seq, seq+999/fewer)
		}
		for i := range batch {
			batch[i].Message += text
		}
		appendAll(t, s, batch)
	}
	before, err := s.FileBytes()
	if err != nil {
		t.Fatal(err)
	}
	const limit = 3 << 20 / fewer
	n, err := s.Retain(ctx, 0, limit, start)
	if err != nil || n < 3000/fewer {
		t.Errorf("deleted: got %d, %v, want most rows", n, err)
	}
	used, err := s.usedBytes(ctx)
	if err != nil || used > limit || used < limit*8/10 {
		t.Errorf("the file holds %d bytes, %v, want a little less than %d", used, err, limit)
	}
	if got := scalar(t, s, "SELECT min(seq) >> 10 FROM messages"); got != n+1 {
		t.Errorf("oldest row: got sequence %d, want %d: the oldest go first", got, n+1)
	}
	if got, want := scalar(t, s, "SELECT count(*) FROM words_docsize"),
		scalar(t, s, "SELECT count(*) FROM messages"); got != want {
		t.Errorf("documents in the index: got %d, want one for each of %d rows", got, want)
	}
	if pages := scalar(t, s, "SELECT page_count FROM pragma_page_count"); pages*4096 > limit*12/10+sparePages*4096 {
		t.Errorf("the file has %d pages, want it shrunk to about %d bytes", pages, limit)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := s.FileBytes(); err != nil || after > before*3/4 {
		t.Errorf("file: got %d bytes, %v, before %d", after, err, before)
	}
	checkIntegrity(t, open(t, s.path))
}

func TestRetainLeavesRoomForAppend(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	appendAll(t, s, rows(epochA, 1, 9000/fewer))
	done := make(chan error)
	go func() {
		_, err := s.Retain(ctx, time.Hour, 0, start.Add(24*time.Hour))
		done <- err
	}()
	appended := 0
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			if appended < 5 {
				t.Errorf("only %d batches got in while retention ran", appended)
			}
			return
		default:
			appendAll(t, s, rows(epochB, uint64(appended)*10+1, uint64(appended)*10+10))
			appended++
		}
	}
}

func TestHolesAreCountedOnce(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	begin := func(epoch string, first uint64) Epoch {
		t.Helper()
		e, err := s.Begin(ctx, epoch, first)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	account := func(epoch string, upTo, want uint64) {
		t.Helper()
		if got, err := s.Account(ctx, epoch, upTo); err != nil || got != want {
			t.Errorf("account %s up to %d: got %d holes, %v, want %d", epoch, upTo, got, err, want)
		}
	}
	missing := func(epoch string, upTo, want uint64) {
		t.Helper()
		got, ok, err := s.Missing(ctx, epoch, upTo)
		if err != nil || ok != (want != 0) || ok && got != want {
			t.Errorf("missing in %s up to %d: got %d, %v, %v, want %d", epoch, upTo, got, ok, err, want)
		}
	}
	if e := begin(epochA, 500); e.First != 500 || e.Accounted != 499 {
		t.Errorf("a new log of a stream that begins at 500: got %+v", e)
	}
	missing(epochA, 499, 0)
	missing(epochA, 500, 500)
	appendAll(t, s, packs(epochA, 500, 520))
	appendAll(t, s, packs(epochA, 531, 540)) // out of order: 521 to 530 may still come
	missing(epochA, 540, 521)
	account(epochA, 520, 0)
	appendAll(t, s, packs(epochA, 525, 530))
	account(epochA, 540, 4)
	account(epochA, 540, 0)
	account(epochA, 530, 0)
	missing(epochA, 540, 0)
	if e := begin(epochA, 510); e.First != 500 || e.Accounted != 540 || e.Holes != 4 {
		t.Errorf("the same epoch again: got %+v", e)
	}
	appendAll(t, s, packs(epochA, 543, 545))
	if e := begin(epochB, 1); e.First != 1 || e.Accounted != 0 {
		t.Errorf("the next epoch: got %+v", e)
	}
	appendAll(t, s, packs(epochB, 10, 20))
	account(epochB, 20, 9)
	epochs, err := s.Epochs(ctx)
	want := []Epoch{{epochA, 500, 545, 6}, {epochB, 1, 20, 9}}
	if err != nil || len(epochs) != 2 || epochs[0] != want[0] || epochs[1] != want[1] {
		t.Errorf("epochs: got %+v, %v, want %+v", epochs, err, want)
	}
	// What retention deletes was there.
	appendAll(t, s, packs(epochB, 21, 40))
	if _, err := s.Retain(ctx, time.Hour, 0, start.Add(100*time.Hour)); err != nil {
		t.Fatal(err)
	}
	account(epochB, 41, 1)
}
