package natsx_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

// A page is merged over all names, each message once, and complete up to its
// end, whichever bound cuts it.
func TestReaderPages(t *testing.T) {
	nc, _ := stream(t, "a", "b", "orders.eu", "a", "b", "orders.us", "a")
	r := natsx.NewReader(nc)
	for _, c := range []struct {
		names       []string
		since, upTo uint64
		messages    int
		want        []uint64
		end         uint64
	}{
		{[]string{">"}, 0, 7, 100, []uint64{1, 2, 3, 4, 5, 6, 7}, 7},
		{[]string{">"}, 2, 5, 100, []uint64{3, 4, 5}, 5},
		{[]string{">"}, 7, 7, 100, nil, 7},
		{[]string{"b", "a"}, 0, 7, 100, []uint64{1, 2, 4, 5, 7}, 7},
		{[]string{"a", ">", "*"}, 0, 7, 100, []uint64{1, 2, 3, 4, 5, 6, 7}, 7},
		{[]string{"orders.*"}, 0, 7, 100, []uint64{3, 6}, 7},
		{[]string{"nothing"}, 0, 7, 100, nil, 7},
		{[]string{"a"}, 0, 7, 2, []uint64{1, 4}, 4},                // its page ends with its second message
		{[]string{"a", "b"}, 0, 7, 1, []uint64{1}, 1},              // b is read to 2, a only to 1
		{[]string{"a", "orders.>"}, 0, 7, 2, []uint64{1, 3, 4}, 4}, // orders is read to the end, a only to 4
	} {
		t.Run(fmt.Sprint(c.names, c.since, c.upTo, c.messages), func(t *testing.T) {
			got, err := r.Read(t.Context(), natsx.Range{Names: c.names, Since: c.since, UpTo: c.upTo, Messages: c.messages})
			if err != nil || !slices.Equal(seqs(got.Messages), c.want) || got.End != c.end || got.Expired != 0 {
				t.Errorf("got %v up to %d, expired %d, %v; want %v up to %d", seqs(got.Messages), got.End, got.Expired, err, c.want, c.end)
			}
		})
	}
}

// What retention took is told, also when it took all that was asked for.
func TestReaderTellsWhatExpired(t *testing.T) {
	nc, js := stream(t, "a", "b", "a", "b", "a")
	r := natsx.NewReader(nc)
	purge := func(keep uint64) {
		t.Helper()
		s, err := js.Stream(t.Context(), proto.Stream)
		if err == nil {
			err = s.Purge(t.Context(), jetstream.WithPurgeSequence(keep))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(since uint64, want ...uint64) natsx.Span {
		t.Helper()
		got, err := r.Read(t.Context(), natsx.Range{Names: []string{"a"}, Since: since, UpTo: 5, Messages: 10})
		if err != nil || !slices.Equal(seqs(got.Messages), want) || got.End != 5 {
			t.Errorf("since %d: got %v up to %d, %v", since, seqs(got.Messages), got.End, err)
		}
		return got
	}
	purge(4)
	if got := read(0, 5); got.Expired != 3 {
		t.Errorf("expired up to %d, want 3", got.Expired)
	}
	if got := read(3, 5); got.Expired != 0 {
		t.Errorf("expired up to %d, want nothing", got.Expired)
	}
	purge(6)
	if got := read(4); got.Expired != 5 {
		t.Errorf("expired up to %d, want 5", got.Expired)
	}
	state, err := r.State(t.Context())
	if err != nil || state.First != 6 || state.Last != 5 {
		t.Errorf("got %+v, %v", state, err)
	}
}

// A sequence that no replica has got is waited for, and not longer than the
// caller likes.
func TestReaderWaitsForAReplica(t *testing.T) {
	nc, _ := stream(t, "a")
	r := natsx.NewReader(nc)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := r.Last(ctx, []string{"a"}, 9); !errors.Is(err, natsx.ErrBehind) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, %v", seqs(got), err)
	}
	if got, err := r.Last(t.Context(), []string{"a"}, 0); err != nil || got != nil {
		t.Errorf("nothing is stored: got %v, %v", seqs(got), err)
	}
}
