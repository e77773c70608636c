package ask_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

type question struct {
	Text string `json:"text"`
}

// serve runs one instance; the returned function stops it and waits.
func serve(t *testing.T, nc *nats.Conn, name string, more map[string]ask.Answer) (stop func()) {
	t.Helper()
	answers := map[string]ask.Answer{
		"echo": ask.Handle(func(_ context.Context, q question) (question, error) {
			if q.Text == "wrong" {
				return q, ask.Refuse(422, "%s is\nwrong", q.Text)
			}
			if q.Text == "broken" {
				panic("broken")
			}
			return question{name + " " + q.Text}, nil
		}),
		"large": ask.Handle(func(context.Context, struct{}) (string,
			error) {
			return strings.Repeat("x", ask.MaxAnswer), nil
		}),
	}
	for what, a := range more {
		answers[what] = a
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { // ends with cancel
		done <- ask.Serve(ctx, ask.Spec{NATS: nc, Log: natstest.Log(t), Service: "gateway", Instance: name,
			Version: "v1.2.3", Answers: answers})
	}()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	return stop
}

func client(t *testing.T, s *natstest.Server) *ask.Client {
	t.Helper()
	c, err := ask.NewClient(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func names(answers []ask.From[question]) (out []string) {
	for _, a := range answers {
		out = append(out, a.Instance+": "+a.Answer.Text)
	}
	return out
}

// Every instance answers, one of them can be asked alone, and who stops is not missed.
func TestAsk(t *testing.T) {
	s := natstest.Start(t)
	c := client(t, s)
	stopA := serve(t, s.Connect(), "a", nil)
	stopB := serve(t, s.Connect(), "b", nil)
	defer stopB()
	natstest.Eventually(t, patience, "both answer", func() bool {
		answers, silent, err := ask.All[question](t.Context(), c, "gateway", "echo", question{"hi"})
		return err == nil && len(silent) == 0 && slices.Equal(names(answers), []string{"a: a hi", "b: b hi"})
	})
	natstest.Eventually(t, patience, "an answer when all have answered", func() bool {
		begin := time.Now()
		answers, _, err := ask.All[question](t.Context(), c, "gateway", "echo", question{"hi"})
		// Who is silent is waited for a second.
		return err == nil && len(answers) == 2 && time.Since(begin) < 900*time.Millisecond
	})
	one, err := ask.One[question](t.Context(), c, "gateway", "b", "echo", question{"you"})
	if err != nil || one.Text != "b you" {
		t.Errorf("one: got %q, %v", one.Text, err)
	}
	stopA()
	natstest.Eventually(t, patience, "one is left, and nobody is missed", func() bool {
		answers, silent, err := ask.All[question](t.Context(), c, "gateway", "echo", question{"hi"})
		return err == nil && len(silent) == 0 && slices.Equal(names(answers), []string{"b: b hi"})
	})
	answers, silent, err := ask.All[question](t.Context(), c, "logger", "echo", question{})
	if err != nil || len(answers)+len(silent) != 0 {
		t.Errorf("of a service that is not there: got %v, %v, %v", answers, silent, err)
	}
}

// Who does not answer is named, and waited for once.
func TestSilent(t *testing.T) {
	s := natstest.Start(t)
	c := client(t, s)
	var deaf atomic.Bool
	release := make(chan struct{})
	defer serve(t, s.Connect(), "a",
		map[string]ask.Answer{
			"slow": ask.Handle(func(ctx context.Context, q question) (question, error) { return q, nil })})()
	defer serve(t, s.Connect(), "b",
		map[string]ask.Answer{"slow": ask.Handle(func(ctx context.Context, q question) (question, error) {
			if deaf.Load() {
				<-release
			}
			return q, nil
		})})()
	defer close(release)
	both := func() bool {
		answers, silent, err := ask.All[question](t.Context(), c, "gateway", "slow", question{"hi"})
		return err == nil && len(silent) == 0 && len(answers) == 2
	}
	natstest.Eventually(t, patience, "both answer", both)
	deaf.Store(true)
	natstest.Eventually(t, patience, "one is named", func() bool {
		answers, silent, err := ask.All[question](t.Context(), c, "gateway", "slow", question{"hi"})
		return err == nil && slices.Equal(silent, []string{"gateway b (did not answer within 1s)"}) &&
			slices.Equal(names(answers), []string{"a: hi"})
	})
	if _, err := ask.One[question](t.Context(), c, "gateway", "b", "slow", question{}); err == nil ||
		!strings.Contains(err.Error(), "did not answer") {
		t.Errorf("one: got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s := natstest.Start(t)
	c := client(t, s)
	defer serve(t, s.Connect(), "a", nil)()
	natstest.Eventually(t, patience, "it answers", func() bool {
		_, err := ask.One[question](t.Context(), c, "gateway", "a", "echo", nil)
		return err == nil
	})
	for name, q := range map[string]struct {
		instance, what string
		question       any
		status         int
		text           string
	}{
		"refused":        {"a", "echo", question{"wrong"}, 422, "wrong is wrong"},
		"unknown member": {"a", "echo", map[string]int{"texts": 1}, 400, "texts"},
		"no instance":    {"b", "echo", question{}, 404, "there is no gateway b"},
		"no name":        {"", "echo", question{}, 404, "there is no gateway"},
		"wildcard":       {"*", "echo", question{}, 404, "there is no gateway"},
		"too large":      {"a", "large", nil, 400, "ask for fewer rows"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ask.One[any](t.Context(), c, "gateway", q.instance, q.what, q.question)
			var e *ask.Error
			if !errors.As(err, &e) || e.Status != q.status || !strings.Contains(e.Text, q.text) {
				t.Errorf("got %v, want %d %s", err, q.status, q.text)
			}
		})
	}
	if _, err := ask.One[question](t.Context(), c, "gateway", "a", "echo", question{"broken"}); err == nil ||
		!strings.Contains(err.Error(), "the log of gateway a says why") {
		t.Errorf("a panic: got %v", err)
	}
	var e *ask.Error
	if _, _, err := ask.All[question](t.Context(), c, "gateway", "echo", question{"wrong"}); !errors.As(err, &e) ||
		e.Status != 422 {
		t.Errorf("all: got %v", err)
	}
}

// Pages of several orders have every row once, in order, also when rows come twice or are large.
func TestPages(t *testing.T) {
	for _, sort := range []string{"count", "-count", "name", "-name"} {
		order, err := ask.ParseOrder(sort, ask.AddressOrders...)
		if err != nil {
			t.Fatal(err)
		}
		var got []ask.Tally
		next := ""
		for pages := 0; pages == 0 || next != ""; pages++ {
			after, err := order.After(next)
			if err != nil {
				t.Fatal(err)
			}
			top := ask.NewTop[ask.Tally](order, after, 7)
			for i := range 100 {
				row := ask.Tally{Name: fmt.Sprintf("n%02d", i*37%100), Count: i % 10}
				for range 1 + i%2 {
					if k := row.Key(order.By); top.Wants(k) {
						top.Add(k, row)
					}
				}
			}
			rows, n, err := top.Page(200)
			if err != nil || len(rows) > 7 || pages > 100 {
				t.Fatalf("%s: page of %d rows, %v", sort, len(rows), err)
			}
			got, next = append(got, rows...), n
		}
		if len(got) != 100 ||
			!slices.IsSortedFunc(got,
				func(a, b ask.Tally) int { return order.Compare(a.Key(order.By), b.Key(order.By)) }) {
			t.Errorf("%s: got %d rows: %v", sort, len(got), got)
		}
	}
	if _, err := ask.ParseOrder("size", ask.AddressOrders...); err == nil ||
		!strings.Contains(err.Error(), "want one of count, name, refused") {
		t.Errorf("an order that is not known: got %v", err)
	}
	count, name := ask.Order{By: "count"}, ask.Order{By: "name"}
	for _, c := range []string{"%", "e30x", name.Cursor(ask.Key{ID: "a"})} {
		if _, err := count.After(c); err == nil {
			t.Errorf("cursor %q is taken", c)
		}
	}
	for _, n := range []int{-1, ask.MaxLimit + 1} {
		if _, err := ask.Limit(n); err == nil {
			t.Errorf("limit %d is taken", n)
		}
	}
}

func TestHistogram(t *testing.T) {
	h := ask.Histogram{Bounds: []float64{1, 2, 4}, Buckets: []uint64{10, 20, 40}, Count: 40}
	later := ask.Histogram{Bounds: h.Bounds, Buckets: []uint64{10, 30, 50}, Count: 52}
	for q, want := range map[float64]float64{0.25: 1, 0.5: 2, 0.75: 3, 1: 4} {
		if got, ok := h.Quantile(q); !ok || got != want {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
	if got, ok := later.Since(h).Quantile(0.5); !ok || got != 1.6 {
		t.Errorf("of the difference: got %v", got)
	}
	if got := h.Since(later); got.Count != h.Count {
		t.Errorf("after a restart: got %v", got)
	}
	if got := h.Plus(ask.Histogram{}).Plus(h); got.Count != 80 || got.Buckets[0] != 20 {
		t.Errorf("the sum: got %v", got)
	}
	if _, ok := (ask.Histogram{}).Quantile(0.5); ok {
		t.Error("a quantile of nothing")
	}
}

// The ring keeps the newest, and an answer is bounded whatever strangers write.
func TestRefusalRing(t *testing.T) {
	var r ask.RefusalRing
	for i := range 700 {
		r.Add(ask.Refusal{Reason: "origin", Address: fmt.Sprintf("10.0.0.%d", i%200), Request: fmt.Sprint(i),
			Detail: strings.Repeat("<", 1000), Path: strings.Repeat("\x01", 1000), Origin: strings.Repeat("&", 1000)})
	}
	got, err := r.Find(ask.RefusalsQuestion{})
	if err != nil || len(got.Rows) == 0 || len(got.Rows) >= 500 || got.Rows[0].Request != "699" || r.Count() != 700 {
		t.Fatalf("got %d rows, %v", len(got.Rows), err)
	}
	if b, err := json.Marshal(got); err != nil || len(b) > ask.MaxAnswer {
		t.Errorf("the answer has %d bytes, %v", len(b), err)
	}
	got, err = r.Find(ask.RefusalsQuestion{Address: "10.0.0.7"})
	if err != nil || len(got.Rows) != 3 || got.Rows[0].Request != "607" || got.Rows[2].Request != "207" {
		t.Errorf("by address: got %d, %v", len(got.Rows), err)
	}
	if _, err := r.Find(ask.RefusalsQuestion{Address: "here"}); err == nil {
		t.Error("an address that is none is taken")
	}
}

// What is to be done once is done by one instance, and does not wait for other answers.
func TestOnce(t *testing.T) {
	s := natstest.Start(t)
	c := client(t, s)
	refused := func(err error, status int) bool {
		e := (*ask.Error)(nil)
		return errors.As(err, &e) && e.Status == status
	}
	if _, err := ask.Any[question](t.Context(), c, "ingest", "do", question{}, patience); !refused(err, 503) {
		t.Errorf("without anybody: got %v", err)
	}
	var done atomic.Int64
	hold := make(chan struct{})
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, name := range []string{"a", "b"} {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		nc := s.Connect()
		go func() { // ends with cancel
			ended <- ask.Serve(ctx, ask.Spec{NATS: nc, Log: natstest.Log(t), Service: "ingest", Instance: name,
				Version: "v1.2.3",
				Answers: map[string]ask.Answer{
					"hi": ask.Handle(func(context.Context, struct{}) (question, error) { return question{}, nil }),
					"wait": ask.Handle(func(context.Context, struct{}) (question, error) {
						<-hold
						return question{}, nil
					}),
				},
				Once: map[string]ask.Answer{"do": ask.Handle(func(_ context.Context, q question) (question, error) {
					if q.Text == "wrong" {
						return q, ask.Refuse(409, "wrong")
					}
					done.Add(1)
					return q, nil
				})}})
		}()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}()
	}
	defer close(hold)
	natstest.Eventually(t, patience, "both are there", func() bool {
		answers, _, err := ask.All[question](t.Context(), c, "ingest", "hi", struct{}{})
		if err != nil || len(answers) != 2 {
			return false
		}
		_, err = ask.Any[question](t.Context(), c, "ingest", "do", question{"x"}, patience)
		return err == nil
	})
	for range 4 { // questions that take long keep none of these waiting
		asking.Go(func() { _, _, _ = ask.All[question](context.Background(), c, "ingest", "wait", struct{}{}) })
	}
	before := done.Load()
	for i := range 20 {
		if _, err := ask.Any[question](t.Context(), c, "ingest", "do", question{"x"}, patience); err != nil {
			t.Fatal(err)
		}
		if n := done.Load() - before; n != int64(i+1) {
			t.Fatalf("after %d calls it was done %d times", i+1, n)
		}
	}
	if _, err := ask.Any[question](t.Context(), c, "ingest", "do", question{"wrong"}, patience); !refused(err, 409) {
		t.Errorf("refused: got %v", err)
	}
}

func TestEmptyPage(t *testing.T) {
	top := ask.NewTop[int](ask.Order{By: "name"}, nil, 0)
	if top.Wants(ask.Key{ID: "a"}) {
		t.Error("a page of no rows wants one")
	}
	if rows, next, err := top.Page(1); err != nil || rows == nil || len(rows) > 0 || next != "" {
		t.Errorf("got %v, %q, %v", rows, next, err)
	}
}
