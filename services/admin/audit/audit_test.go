package audit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *Log {
	t.Helper()
	js, err := jetstream.New(natstest.Start(t).Connect())
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(context.Background(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pages reads all pages of a query.
func (l *Log) pages(t *testing.T, q Query) (rows []Row, pages int) {
	t.Helper()
	for {
		page, next, err := l.Page(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, page...)
		if pages++; next == "" {
			return rows, pages
		}
		q.Cursor = next
	}
}

// Pages have every row once, the newest first; a filter that finds little reads no
// more than its share, and says where to go on.
func TestPages(t *testing.T) {
	l := open(t)
	if rows, pages := l.pages(t, Query{Limit: 10}); len(rows) != 0 || pages != 1 {
		t.Errorf("of none: got %v", rows)
	}
	const n = chunk*2 + 50
	for i := range n {
		action := "key.add"
		if i%10 == 0 {
			action = "login." + Refused
		}
		if err := l.Add(context.Background(), Row{Time: time.Unix(int64(i), 0).UTC(), User: fmt.Sprintf("user%d", i%7),
			Action: action, Before: Value(nil), After: Value(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{97, 500} {
		rows, _ := l.pages(t, Query{Limit: limit})
		if len(rows) != n {
			t.Errorf("limit %d: got %d rows, want %d", limit, len(rows), n)
		}
		for i := range rows {
			if want := fmt.Sprint(n - 1 - i); string(rows[i].After) != want {
				t.Fatalf("limit %d: row %d is %s, want %s", limit, i, rows[i].After, want)
			}
		}
	}
	for _, c := range []struct {
		q    Query
		want int
	}{{Query{Action: "login", Limit: 50}, n / 10}, {Query{Action: "login.refused", Limit: 50}, n / 10},
		{Query{Action: "login.", Limit: 50}, n / 10}, {Query{Action: "log", Limit: 50}, 0},
		{Query{User: "USER3", Limit: 500}, n / 7},
		{Query{User: "nobody", Limit: 50}, 0}} {
		if rows, _ := l.pages(t, c.q); len(rows) != c.want {
			t.Errorf("%+v: got %d rows, want %d", c.q, len(rows), c.want)
		}
	}
	if _, _, err := l.Page(context.Background(), Query{Cursor: "x", Limit: 1}); err == nil {
		t.Error("a forged cursor was taken")
	}
}

// What strangers cause has a bound of its own, and pushes nothing else out.
func TestRefusedLoginsPushNothingOut(t *testing.T) {
	l := open(t)
	ctx := context.Background()
	info, err := l.stream.Info(ctx)
	if err != nil || info.Config.MaxMsgsPerSubject != maxRows || info.Config.MaxBytes != maxBytes ||
		info.Config.MaxAge != maxAge || info.Config.Discard != jetstream.DiscardOld {
		t.Fatalf("got %+v, %v", info.Config, err)
	}
	info.Config.MaxMsgsPerSubject = 20 // so that the test need not write as many
	stream, err := l.js.UpdateStream(ctx, info.Config)
	if err != nil {
		t.Fatal(err)
	}
	l.stream = stream
	if err := l.Add(ctx, Row{User: "anna", Action: "key.add"}); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := l.Add(ctx, Row{User: "eve", Action: "login." + Refused}); err != nil {
			t.Fatal(err)
		}
	}
	if rows, _ := l.pages(t, Query{User: "anna", Limit: 10}); len(rows) != 1 {
		t.Errorf("got %v", rows)
	}
	if rows, _ := l.pages(t, Query{Limit: 500}); len(rows) != 21 {
		t.Errorf("got %d rows", len(rows))
	}
}

func TestValue(t *testing.T) {
	if got := string(Value(map[string]string{"a": "<"})); got != `{"a":"\u003c"}` {
		t.Errorf("got %s", got)
	}
	if got := string(Value(strings.Repeat("x", maxValue))); got != fmt.Sprintf(`"(%d bytes)"`, maxValue+2) {
		t.Errorf("got %s", got)
	}
	if got := string(Value(nil)); got != "null" {
		t.Errorf("got %s", got)
	}
}

// An action is one row: of its beginning until its outcome is written, wherever the pages
// divide the two, and none if it was refused.
func TestOutcomes(t *testing.T) {
	l := open(t)
	ctx := context.Background()
	row := func(target string, outcome Outcome) Row {
		return Row{User: "anna", Action: "key.add", Target: target, Outcome: outcome, Before: Value(nil),
			After: Value(nil)}
	}
	begin := func(target string) uint64 {
		seq, err := l.Begin(ctx, row(target, Done))
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	end := func(seq uint64, target string, outcome Outcome) {
		if err := l.End(ctx, seq, row(target, outcome)); err != nil {
			t.Fatal(err)
		}
	}
	done, failed, refused := begin("done"), begin("failed"), begin("refused")
	begin("unknown")
	end(refused, "refused", Nothing)
	end(done, "done", Done)
	end(failed, "failed", Failed)
	if err := l.Add(ctx, row("at once", Done)); err != nil {
		t.Fatal(err)
	}
	want := "at once , failed failed, done , unknown begun"
	for limit := 1; limit <= 5; limit++ {
		rows, _ := l.pages(t, Query{User: "anna", Limit: limit})
		var got []string
		for _, r := range rows {
			got = append(got, r.Target+" "+string(r.Outcome))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("limit %d: got %q, want %q", limit, got, want)
		}
	}
}
