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
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

// A page has the messages of all names, each once, and is complete up to its
// end, whichever bound cuts it.
func TestReaderPages(t *testing.T) {
	nc, _ := stream(t, "a", "b", "orders.eu", "a", "b", "orders.us", "a")
	r := natsx.NewReader(nc, nil)
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
		{nil, 2, 7, 100, nil, 7},
		{[]string{"b", "a"}, 0, 7, 100, []uint64{1, 2, 4, 5, 7}, 7},
		{[]string{"a", ">", "*"}, 0, 7, 100, []uint64{1, 2, 3, 4, 5, 6, 7}, 7},
		{[]string{"orders.*"}, 0, 7, 100, []uint64{3, 6}, 7},
		{[]string{"nothing"}, 0, 7, 100, nil, 7},
		{[]string{"a"}, 0, 7, 2, []uint64{1, 4}, 4},
		{[]string{"a", "orders.>"}, 0, 7, 3, []uint64{1, 3, 4}, 4},
	} {
		t.Run(fmt.Sprint(c.names, c.since, c.upTo, c.messages), func(t *testing.T) {
			got, err := r.Read(t.Context(), natsx.Range{Names: c.names, Since: proto.EndOf(c.since),
				UpTo: proto.EndOf(c.upTo), Messages: c.messages})
			if err != nil || !slices.Equal(seqs(got.Messages), c.want) || got.End != proto.EndOf(c.end) ||
				got.Missing != 0 {
				t.Errorf("got %v up to %d, missing %d, %v; want %v up to %d", seqs(got.Messages), got.End, got.Missing,
					err, c.want, proto.EndOf(c.end))
			}
		})
	}
}

// Page after page brings everything, once, in order, whatever bounds cut them,
// in the middle of a pack or not, and beside messages that are in none.
func TestReaderPagesThroughPacks(t *testing.T) {
	if proto.PlaceBits == 0 {
		return // ids cannot tell the messages of a pack apart yet
	}
	nc, js := stream(t, "a", "b")
	var want []string
	for i := range 40 {
		channels := []string{"a", "b", "a", "c", "a"}[:1+i%5]
		storePack(t, js, channels...)
		for place, c := range channels {
			if c == "a" {
				want = append(want, fmt.Sprint(i+3, place))
			}
		}
		if i == 20 {
			if _, err := js.Publish(t.Context(), "herald.msg.a", []byte("no JSON")); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	want = append([]string{"1 0"}, want...)
	r := natsx.NewReader(nc, nil)
	state, err := r.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, bounds := range []natsx.Range{{Messages: 1}, {Messages: 2}, {Messages: 7}, {Messages: 1000},
		{Messages: 1000, Bytes: 300}, {Messages: 1000, Bytes: 1}} {
		bounds.Names, bounds.UpTo = []string{"a"}, proto.EndOf(state.Last)
		var got []string
		for bounds.Since < bounds.UpTo {
			page, err := r.Read(t.Context(), bounds)
			if err != nil || page.End <= bounds.Since || page.Missing != 0 {
				t.Fatalf("%+v: got %+v, %v", bounds, page, err)
			}
			for _, m := range page.Messages {
				got = append(got, fmt.Sprint(proto.PackOf(m.Number), m.Number-proto.Number(proto.PackOf(m.Number), 0)))
			}
			bounds.Since = page.End
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v", bounds, got, want)
		}
	}
}

// The newest message of each channel that the names take in, and not more than
// a thousand.
func TestReaderLast(t *testing.T) {
	nc, js := stream(t, "a", "orders.eu", "orders.us", "orders.eu.paid", "a", "orders.eu", "b")
	r := natsx.NewReader(nc, nil)
	for _, c := range []struct {
		names []string
		upTo  uint64
		want  []uint64
	}{
		{[]string{"a"}, 7, []uint64{5}},
		{[]string{"a"}, 4, []uint64{1}},
		{[]string{"b", "a"}, 7, []uint64{5, 7}}, // in stream order
		{[]string{"b", "a"}, 6, []uint64{5}},
		{[]string{"orders.*"}, 7, []uint64{3, 6}},
		{[]string{"orders.>", "orders.eu", "*.eu"}, 7, []uint64{3, 4, 6}}, // each once
		{[]string{">"}, 7, []uint64{3, 4, 5, 6, 7}},
		{[]string{">"}, 3, []uint64{1, 2, 3}},
		{[]string{"nothing.*", "a"}, 7, []uint64{5}},
		{nil, 7, nil},
		{[]string{"a"}, 0, nil},
	} {
		got, err := r.Last(t.Context(), c.names, proto.EndOf(c.upTo), 0)
		if c.upTo == 0 {
			got, err = r.Last(t.Context(), c.names, 0, 0)
		}
		if err != nil || !slices.Equal(seqs(got), c.want) {
			t.Errorf("%v up to %d: got %v, %v, want %v", c.names, c.upTo, seqs(got), err, c.want)
		}
	}
	names := make([]string, natsx.MaxNewest+76)
	for i := range names {
		names[i] = fmt.Sprintf("many.%d", i)
	}
	store(t, js, names...)
	last := proto.EndOf(7 + uint64(len(names)))
	got, err := r.Last(t.Context(), []string{"many.*"}, last, 0)
	if err != nil || len(got) != natsx.MaxNewest || got[0].Channel != "many.76" {
		t.Errorf("of %d channels got %d, %v; want the %d used last", len(names), len(got), err, natsx.MaxNewest)
	}
	if got, err := r.Last(t.Context(), []string{"many.*"}, last, 1000); err != nil || len(got) < 5 || len(got) > 15 ||
		got[len(got)-1].Channel != names[len(names)-1] {
		t.Errorf("within 1000 bytes: got %d, %v", len(got), err)
	}
}

// What retention took is told, also when it took all that was asked for; and
// so is what is gone from the middle.
func TestReaderTellsWhatIsMissing(t *testing.T) {
	nc, js := stream(t, "a", "b", "a", "b", "a", "a", "b")
	r := natsx.NewReader(nc, nil)
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	purge := func(keep uint64) {
		t.Helper()
		if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(keep)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(since, end, missing uint64, why string, want ...uint64) {
		t.Helper()
		got, err := r.Read(t.Context(), natsx.Range{Names: []string{"a"}, Since: proto.EndOf(since),
			UpTo: proto.EndOf(7), Messages: 10})
		if missing > 0 {
			missing = proto.EndOf(missing)
		}
		if err != nil || !slices.Equal(seqs(got.Messages), want) || got.End != proto.EndOf(end) ||
			got.Missing != missing || got.Why != why {
			t.Errorf("since %d: got %v up to %d, missing %d %s, %v", since, seqs(got.Messages), got.End, got.Missing,
				got.Why, err)
		}
	}
	purge(3)
	read(0, 2, 2, natsx.Expired)
	read(2, 7, 0, "", 3, 5, 6)
	for _, seq := range []uint64{4, 5} { // what no Herald does
		if err := s.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	read(2, 3, 0, "", 3)
	read(3, 5, 5, natsx.Damaged)
	read(5, 7, 0, "", 6)
	if err := s.DeleteMsg(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	read(6, 7, 7, natsx.Damaged)
	purge(8)
	read(4, 7, 7, natsx.Expired)
	state, err := r.State(t.Context())
	if err != nil || state.First != 8 || state.Last != 7 {
		t.Errorf("got %+v, %v", state, err)
	}
}

// A sequence that no replica has got is waited for, and not longer than the
// caller likes.
func TestReaderWaitsForAReplica(t *testing.T) {
	nc, _ := stream(t, "a")
	var got natsx.Span
	var err error
	// on a busy machine the first answer may take longer
	for patience := 100 * time.Millisecond; patience < 20*time.Second; patience *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got, err = natsx.NewReader(nc, nil).Read(ctx, natsx.Range{Names: []string{"a"}, Since: proto.EndOf(1),
			UpTo: proto.EndOf(2), Messages: 1})
		cancel()
		if errors.Is(err, natsx.ErrBehind) {
			break
		}
	}
	if !errors.Is(err, natsx.ErrBehind) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, %v", got, err)
	}
	if err != nil && !strings.Contains(err.Error(), "behind") {
		t.Errorf("got %q", err)
	}
}

// Who waited for a replica hears so however the wait ended: while a replica was asked, too.
func TestWaitEndsWhileAReplicaIsAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	ask := func() error {
		if asked++; asked == 1 {
			return natsx.ErrBehind
		}
		cancel()
		return ctx.Err()
	}
	if err := natsx.Patiently(ctx, false, ask); !errors.Is(err, natsx.ErrBehind) || !errors.Is(err, context.Canceled) {
		t.Errorf("behind at the first answer: got %v", err)
	}
	broken := errors.New("broken")
	for _, c := range []struct {
		behind bool
		ask    error
		want   []error
	}{
		{true, context.Canceled, []error{natsx.ErrBehind, context.Canceled}},
		{false, context.Canceled, []error{context.Canceled}},
		{false, nil, nil}, {true, nil, nil},
	} {
		err := natsx.Patiently(ctx, c.behind, func() error { return c.ask })
		for _, want := range c.want {
			if !errors.Is(err, want) {
				t.Errorf("behind %t, then %v: got %v", c.behind, c.ask, err)
			}
		}
		if (err == nil) != (c.ask == nil) || !c.behind && errors.Is(err, natsx.ErrBehind) {
			t.Errorf("behind %t, then %v: got %v", c.behind, c.ask, err)
		}
	}
	if err := natsx.Patiently(t.Context(), true, func() error { return broken }); errors.Is(err, natsx.ErrBehind) {
		t.Errorf("what is no wait's end: got %v", err)
	}
}
