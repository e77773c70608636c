package natsx_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// store publishes one message to each channel, in order; the first has
// sequence 1 if the stream is new.
func store(t testing.TB, js jetstream.JetStream, channels ...string) {
	t.Helper()
	if _, err := natstest.Publish(js.Conn(), func(yield func(*nats.Msg) bool) {
		for i, c := range channels {
			if !yield(natsx.NewMsg(message(c, fmt.Sprint(i)), natsx.Headers{}, false)) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// seqs are the sequences of messages.
func seqs(messages []natsx.Received) []uint64 {
	out := make([]uint64, len(messages))
	for i, m := range messages {
		out[i] = m.Seq
	}
	return out
}

// stream starts a server with the stream and stores one message to each channel.
func stream(t testing.TB, channels ...string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	store(t, js, channels...)
	return nc, js
}

func TestFetchPatterns(t *testing.T) {
	nc, _ := stream(t, "a", "orders.eu", "orders.us", "orders.eu.paid", "a", "orders.eu", "b")
	for _, c := range []struct {
		pattern string
		from    uint64
		want    []uint64
	}{
		{"a", 0, []uint64{1, 5}},
		{"a", 1, []uint64{1, 5}},
		{"a", 2, []uint64{5}},
		{"a", 6, nil},
		{"orders.*", 0, []uint64{2, 3, 6}},
		{"orders.>", 3, []uint64{3, 4, 6}},
		{"*.eu", 0, []uint64{2, 6}},
		{">", 0, []uint64{1, 2, 3, 4, 5, 6, 7}},
		{">", 8, nil},
		{">", 1 << 60, nil},
		{"nothing", 0, nil},
		{"nothing.>", 0, nil},
	} {
		t.Run(fmt.Sprint(c.pattern, " from ", c.from), func(t *testing.T) {
			for _, batch := range []int{1, 2, 3, 100} {
				var got []uint64
				q := natsx.Query{Pattern: c.pattern, From: c.from, Batch: batch}
				for pages := 0; ; pages++ {
					page, err := natsx.Fetch(t.Context(), nc, q)
					if err != nil {
						t.Fatal(err)
					}
					if len(page.Messages) > batch || page.More && len(page.Messages) == 0 || pages > 10 {
						t.Fatalf("batch %d: page %d has %v, more %v", batch, pages, seqs(page.Messages), page.More)
					}
					got = append(got, seqs(page.Messages)...)
					if !page.More {
						break
					}
					q.From = got[len(got)-1] + 1
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("batch %d: got %v, want %v", batch, got, c.want)
				}
			}
		})
	}
}

func TestFetchedMessageIsWhole(t *testing.T) {
	nc, js := stream(t, "other")
	accepted := time.UnixMicro(1795000000123456)
	m := message("orders.eu", `{"n":1}`)
	if _, err := js.PublishMsg(t.Context(), natsx.NewMsg(m, natsx.Headers{Source: "::1", Accepted: accepted, Traceparent: "tp"}, false)); err != nil {
		t.Fatal(err)
	}
	page, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: ">", Batch: 10})
	if err != nil || len(page.Messages) != 2 {
		t.Fatalf("got %+v, %v", page, err)
	}
	r := page.Messages[1]
	if r.Channel != "orders.eu" || r.Seq != 2 || r.Last != 0 || string(r.Body) != string(m.AppendBody(nil)) || !r.Accepted.Equal(accepted) || r.Source != "::1" || r.Trace != "tp" {
		t.Errorf("got %+v", r)
	}
}

func TestFetchMaxBytes(t *testing.T) {
	nc, _ := stream(t, "a", "a", "a", "a")
	size := len(message("a", "0").AppendBody(nil)) + len("herald.msg.a")
	for _, c := range []struct {
		maxBytes, batch, want int
		more                  bool
	}{
		{0, 100, 4, false},
		{1, 100, 1, true}, // at least one, or nobody gets on
		{size, 100, 1, true},
		{size + 1, 100, 2, true},
		{4 * size, 100, 4, false},
		{1 << 20, 0, 1, true}, // no batch is a batch of one
		{1 << 20, 3, 3, true},
		{1 << 20, -5, 1, true},
		{-1, 4, 4, false},
	} {
		page, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: ">", Batch: c.batch, MaxBytes: c.maxBytes})
		if err != nil || len(page.Messages) != c.want || page.More != c.more {
			t.Errorf("%d bytes, batch %d: got %d messages, more %v, %v; want %d, %v", c.maxBytes, c.batch, len(page.Messages), page.More, err, c.want, c.more)
		}
	}
}

func TestFetchPagesThroughAThousand(t *testing.T) {
	channels := make([]string, 1000)
	for i := range channels {
		channels[i] = fmt.Sprintf("c.%d", i%7)
	}
	nc, _ := stream(t, channels...)
	var last uint64
	for from, pages := uint64(1), 0; ; pages++ {
		page, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: "c.*", From: from, Batch: 256, MaxBytes: 10_000})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Messages {
			if m.Seq != last+1 {
				t.Fatalf("%d after %d", m.Seq, last)
			}
			last = m.Seq
		}
		if !page.More {
			break
		}
		from = last + 1
	}
	if last != 1000 {
		t.Errorf("ended at %d", last)
	}
}

// What others stored under our subjects is passed over, and must not end the
// history early.
func TestFetchPassesOverForeignMessages(t *testing.T) {
	nc, js := stream(t, "a")
	foreign := func(n int) {
		t.Helper()
		for range n {
			if _, err := js.Publish(t.Context(), "herald.msg.a", []byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
	}
	foreign(7)
	store(t, js, "a") // 9
	foreign(4)
	for _, batch := range []int{1, 2, 3, 8, 100} {
		page, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: "a", From: 2, Batch: batch})
		if err != nil || !slices.Equal(seqs(page.Messages), []uint64{9}) {
			t.Errorf("batch %d: got %v, %v", batch, seqs(page.Messages), err)
		}
		page, err = natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: "a", From: 10, Batch: batch})
		if err != nil || len(page.Messages) != 0 || page.More {
			t.Errorf("batch %d, only foreign ones: got %v, more %v, %v", batch, seqs(page.Messages), page.More, err)
		}
	}
}

func TestFetchPassesOverDeletedMessages(t *testing.T) {
	nc, js := stream(t, "a", "a", "a", "a", "a")
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{1, 3} {
		if err := s.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	page, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: "a", Batch: 2})
	if err != nil || !slices.Equal(seqs(page.Messages), []uint64{2, 4}) || !page.More {
		t.Errorf("got %v, more %v, %v", seqs(page.Messages), page.More, err)
	}
}

// Without a stream nobody answers. That is to be known at once, not after a timeout.
func TestNoStream(t *testing.T) {
	nc := natstest.Start(t).Connect()
	for name, ask := range map[string]func(context.Context) error{
		"Fetch": func(ctx context.Context) error {
			_, err := natsx.Fetch(ctx, nc, natsx.Query{Pattern: ">", Batch: 10})
			return err
		},
		"FetchLast": func(ctx context.Context) error { _, err := natsx.FetchLast(ctx, nc, []string{"a"}, 0); return err },
		"LastSeq":   func(ctx context.Context) error { _, err := natsx.LastSeq(ctx, nc); return err },
	} {
		begin := time.Now()
		if err := ask(t.Context()); !errors.Is(err, nats.ErrNoResponders) || !strings.Contains(err.Error(), "stream HERALD") {
			t.Errorf("%s: got %v", name, err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := ask(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s, cancelled: got %v", name, err)
		}
	}
}

func TestFetchWhileNATSIsAway(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	s.Stream(nc)
	s.Stop()
	natstest.Eventually(t, 5*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
	begin := time.Now()
	if _, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: ">", Batch: 10}); err == nil {
		t.Error("no error")
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %s", took)
	}
	s.Restart()
	natstest.Eventually(t, 10*time.Second, "history is back", func() bool {
		_, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: ">", Batch: 10})
		return err == nil
	})
}

// A server that never answers: only the caller's patience ends it.
func TestFetchEndsWithItsContext(t *testing.T) {
	nc := natstest.Start(t).Connect()
	sub, err := nc.Subscribe("$JS.API.DIRECT.GET.HERALD", func(*nats.Msg) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := natsx.Fetch(ctx, nc, natsx.Query{Pattern: ">", Batch: 10}); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 2*time.Second {
		t.Errorf("got %v after %s", err, time.Since(begin))
	}
	if n := nc.NumSubscriptions(); n != 1 {
		t.Errorf("%d subscriptions remain, want the test's own", n)
	}
}

// Answers come once over the wire, also on a connection that has made requests.
func TestFetchIsNotDeliveredTwice(t *testing.T) {
	nc, _ := stream(t, "a", "a", "a")
	if _, err := natsx.LastSeq(t.Context(), nc); err != nil { // makes the connection's own inbox
		t.Fatal(err)
	}
	before := nc.Stats().InMsgs
	if _, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: "a", Batch: 10}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := nc.Stats().InMsgs - before; got != 4 {
		t.Errorf("%d messages came for three and an end", got)
	}
}
