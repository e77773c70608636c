package store

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestRetainByAge(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	appendAll(t, s, rows(epochA, 1, 10_000))
	young := row(epochA, 3, "a", "young") // a clock that is wrong does not stop retention
	young.Epoch, young.Seq, young.Timestamp = epochA, 10_001, "2099-01-01T00:00:00.000Z"
	appendAll(t, s, []Row{young})
	appendAll(t, s, rows(epochA, 10_002, 10_100))
	index(t, s)
	now := start.Add(time.Hour + 9000*time.Second)
	n, err := s.Retain(ctx, time.Hour, 0, now)
	if err != nil || n != 8999 {
		t.Errorf("deleted: got %d, %v, want the 8999 rows before second 9000", n, err)
	}
	if n, err = s.Retain(ctx, time.Hour, 0, now); err != nil || n != 0 {
		t.Errorf("again: got %d, %v, want 0", n, err)
	}
	if got := len(all(t, s, Filter{Search: "disk*", Limit: MaxLimit})); got != 10_100-9000 {
		t.Errorf("search: got %d rows, want %d", got, 10_100-9000)
	}
	n, err = s.Retain(ctx, time.Hour, 0, now.Add(24*time.Hour))
	if err != nil || n != 10_100-9000 {
		t.Errorf("the rest: got %d, %v, want all but the one of 2099", n, err)
	}
	for query, want := range map[string]int{
		"SELECT count(*) FROM messages": 1, "SELECT count(*) FROM segments": 0, "SELECT count(*) FROM terms": 0,
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
	for seq := uint64(1); seq <= 20_000; seq += 1000 {
		batch := rows(epochA, seq, seq+999)
		if seq > 10_000 {
			batch = rows(epochB, seq, seq+999)
		}
		for i := range batch {
			batch[i].Message += text
		}
		appendAll(t, s, batch)
		index(t, s)
	}
	before, err := s.FileBytes()
	if err != nil {
		t.Fatal(err)
	}
	const limit = 5 << 20
	n, err := s.Retain(ctx, 0, limit, start)
	if err != nil || n < 10_000 {
		t.Errorf("deleted: got %d, %v, want most rows", n, err)
	}
	used, err := s.usedBytes(ctx)
	if err != nil || used > limit || used < limit*8/10 {
		t.Errorf("the file holds %d bytes, %v, want a little less than %d", used, err, limit)
	}
	if got := scalar(t, s, "SELECT min(seq) FROM messages"); got != n+1 {
		t.Errorf("oldest row: got sequence %d, want %d: the oldest go first", got, n+1)
	}
	if got := scalar(t, s, "SELECT count(*) FROM segments WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.epoch = segments.epoch AND seq BETWEEN first AND last)"); got != 0 {
		t.Errorf("segments without rows: got %d, want 0", got)
	}
	if got := scalar(t, s, "SELECT count(*) FROM terms WHERE segment NOT IN (SELECT segment FROM segments)"); got != 0 {
		t.Errorf("terms without segment: got %d, want 0", got)
	}
	if pages := scalar(t, s, "SELECT page_count FROM pragma_page_count"); pages*4096 > limit*12/10+sparePages*4096 {
		t.Errorf("the file has %d pages, want it shrunk to about %d bytes", pages, limit)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := s.FileBytes(); err != nil || after > before/2 {
		t.Errorf("file: got %d bytes, %v, before %d", after, err, before)
	}
	checkIntegrity(t, open(t, s.path))
}

func TestRetainLeavesRoomForAppend(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	appendAll(t, s, rows(epochA, 1, 30_000))
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
	appendAll(t, s, rows(epochA, 500, 520))
	appendAll(t, s, rows(epochA, 531, 540)) // out of order: 521 to 530 may still come
	missing(epochA, 540, 521)
	account(epochA, 520, 0)
	appendAll(t, s, rows(epochA, 525, 530))
	account(epochA, 540, 4)
	account(epochA, 540, 0)
	account(epochA, 530, 0)
	missing(epochA, 540, 0)
	if e := begin(epochA, 510); e.First != 500 || e.Accounted != 540 || e.Holes != 4 {
		t.Errorf("the same epoch again: got %+v", e)
	}
	appendAll(t, s, rows(epochA, 543, 545))
	if e := begin(epochB, 1); e.First != 1 || e.Accounted != 0 {
		t.Errorf("the next epoch: got %+v", e)
	}
	appendAll(t, s, rows(epochB, 10, 20))
	account(epochB, 20, 9)
	epochs, err := s.Epochs(ctx)
	want := []Epoch{{epochA, 500, 545, 6}, {epochB, 1, 20, 9}}
	if err != nil || len(epochs) != 2 || epochs[0] != want[0] || epochs[1] != want[1] {
		t.Errorf("epochs: got %+v, %v, want %+v", epochs, err, want)
	}
	// What retention deletes was there.
	appendAll(t, s, rows(epochB, 21, 40))
	if _, err := s.Retain(ctx, time.Hour, 0, start.Add(100*time.Hour)); err != nil {
		t.Fatal(err)
	}
	account(epochB, 41, 1)
}
