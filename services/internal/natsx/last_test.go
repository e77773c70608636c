package natsx_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
)

func TestFetchLast(t *testing.T) {
	nc, _ := stream(t, "a", "orders.eu", "orders.us", "orders.eu.paid", "a", "orders.eu", "b")
	for _, c := range []struct {
		patterns []string
		upTo     uint64
		want     []uint64
	}{
		{[]string{"a"}, 0, []uint64{5}},
		{[]string{"a"}, 4, []uint64{1}},
		{[]string{"b", "a"}, 0, []uint64{5, 7}}, // in stream order
		{[]string{"b", "a"}, 6, []uint64{5}},
		{[]string{"orders.*"}, 0, []uint64{3, 6}},
		{[]string{"orders.>"}, 0, []uint64{3, 4, 6}},
		{[]string{"orders.>", "orders.eu", "*.eu"}, 0, []uint64{3, 4, 6}}, // each once
		{[]string{">"}, 0, []uint64{3, 4, 5, 6, 7}},
		{[]string{">"}, 3, []uint64{1, 2, 3}},
		{[]string{"nothing"}, 0, nil},
		{[]string{"nothing.*", "a"}, 0, []uint64{5}},
		{nil, 0, nil},
	} {
		t.Run(fmt.Sprint(c.patterns, " up to ", c.upTo), func(t *testing.T) {
			got, err := natsx.FetchLast(t.Context(), nc, c.patterns, c.upTo)
			if err != nil || !slices.Equal(seqs(got), c.want) {
				t.Errorf("got %v, %v, want %v", seqs(got), err, c.want)
			}
			for _, r := range got {
				if r.Last != 0 || len(r.Body) == 0 || r.Channel == "" {
					t.Errorf("got %+v", r)
				}
			}
		})
	}
}

// A replica that has not reached upTo answers that there is nothing. A single
// server does so too when it is asked for more than it has.
func TestFetchLastFromAReplicaThatIsBehind(t *testing.T) {
	nc, _ := stream(t, "a", "b", "a")
	for _, upTo := range []uint64{4, 100} {
		for _, patterns := range [][]string{{"a"}, {">"}, {"nothing", "b"}} {
			if got, err := natsx.FetchLast(t.Context(), nc, patterns, upTo); !errors.Is(err, natsx.ErrBehind) || got != nil {
				t.Errorf("%v up to %d: got %v, %v", patterns, upTo, seqs(got), err)
			}
		}
		if got, err := natsx.FetchLast(t.Context(), nc, []string{"nothing", "no.*"}, upTo); err != nil || len(got) != 0 {
			t.Errorf("nothing is there up to %d: got %v, %v", upTo, seqs(got), err)
		}
	}
	if got, err := natsx.FetchLast(t.Context(), nc, []string{"b"}, 1); err != nil || len(got) != 0 {
		t.Errorf("b came after 1: got %v, %v", seqs(got), err)
	}
}

// The server answers for 1024 channels and refuses one more.
func TestFetchLastOfTooManyChannels(t *testing.T) {
	channels := make([]string, 1024)
	for i := range channels {
		channels[i] = fmt.Sprintf("c.%d", i)
	}
	nc, js := stream(t, channels...)
	got, err := natsx.FetchLast(t.Context(), nc, []string{">"}, 0)
	if err != nil || len(got) != 1024 || !slices.IsSorted(seqs(got)) {
		t.Fatalf("1024 channels: got %d messages, %v", len(got), err)
	}
	store(t, js, "c.1024")
	if got, err := natsx.FetchLast(t.Context(), nc, []string{">"}, 0); !errors.Is(err, natsx.ErrTooManyChannels) || got != nil {
		t.Errorf("1025 channels: got %d messages, %v", len(got), err)
	} else if want := "fetch the last messages from stream HERALD: the patterns take in more than 1024 channels"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if got, err := natsx.FetchLast(t.Context(), nc, []string{"c.1024", "c.7"}, 0); err != nil || len(got) != 2 {
		t.Errorf("two of 1025 channels: got %d messages, %v", len(got), err)
	}
}

// More than one answer may hold is fetched in several.
func TestFetchLastOfLargeMessages(t *testing.T) {
	nc, js := stream(t)
	data := `"` + strings.Repeat("x", 1_000_000) + `"`
	for i := range 12 {
		if _, err := js.PublishMsg(t.Context(), natsx.NewMsg(message(fmt.Sprintf("c.%d", i), data), natsx.Headers{}, false)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := natsx.FetchLast(t.Context(), nc, []string{"c.*"}, 0)
	if err != nil || len(got) != 12 {
		t.Fatalf("got %d messages, %v", len(got), err)
	}
	for i, r := range got {
		if r.Seq != uint64(i)+1 || len(r.Body) < 1_000_000 {
			t.Errorf("%d: got %d with %d bytes", i, r.Seq, len(r.Body))
		}
	}
	for i := range 8 {
		if _, err := js.PublishMsg(t.Context(), natsx.NewMsg(message(fmt.Sprintf("d.%d", i), data), natsx.Headers{}, false)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := natsx.FetchLast(t.Context(), nc, []string{">"}, 0); !errors.Is(err, natsx.ErrTooManyChannels) || got != nil {
		t.Errorf("more than two answers: got %d messages, %v", len(got), err)
	}
	page, err := natsx.Fetch(t.Context(), nc, natsx.Query{Pattern: ">", Batch: 100})
	if err != nil || !page.More || len(page.Messages) < 8 || len(page.Messages) > 9 {
		t.Errorf("fetch without MaxBytes: got %d messages, more %v, %v", len(page.Messages), page.More, err)
	}
}

func TestLastSeq(t *testing.T) {
	nc, js := stream(t)
	want := func(n uint64, when string) {
		t.Helper()
		if got, err := natsx.LastSeq(t.Context(), nc); err != nil || got != n {
			t.Errorf("%s: got %d, %v, want %d", when, got, err, n)
		}
	}
	want(0, "empty")
	store(t, js, "a", "b", "a")
	want(3, "filled")
	if _, err := js.Publish(t.Context(), "herald.msg.a", []byte("foreign")); err != nil {
		t.Fatal(err)
	}
	want(4, "a foreign one")
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(4, "all expired: a client that starts here has missed nothing")
	store(t, js, "a")
	want(5, "filled again")
}
