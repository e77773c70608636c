package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Look shows every subscriber, and the followers of each name once, while others come, go and are delivered to.
func TestLook(t *testing.T) {
	const stay = 3000
	h, _ := start(t, Config{Shards: 3, InboxMessages: 100, RecentMessages: 100, RecentBytes: 1 << 20}, 0)
	for i := range stay {
		join(attach(h, &sink{}), Now, "all", fmt.Sprintf("own.%d", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() { // ends with cancel
		defer close(left)
		for ctx.Err() == nil {
			sub := attach(h, &sink{})
			join(sub, Now, "passing")
			gone := make(chan struct{})
			sub.Detach(func() { close(gone) })
			<-gone
		}
	}()
	for range 10 {
		seen := map[Sink]int{}
		followers := map[string]int{}
		err := h.Look(t.Context(), func(s *Seen) {
			seen[s.Sink]++
			for i := range s.Subscriptions() {
				if n := s.Followers(i); n > 0 {
					followers[s.Name(i)] += n
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) < stay || len(seen) > stay+10 {
			t.Errorf("%d were seen", len(seen))
		}
		if n := followers["all"]; n != stay {
			t.Errorf("all has %d followers", n)
		}
	}
	cancel()
	<-left
	if err := h.Look(t.Context(), func(*Seen) { panic("on purpose") }); err == nil ||
		!strings.Contains(err.Error(), "on purpose") {
		t.Errorf("a look that panics: %v", err)
	}
	if n, err := h.Followers(t.Context(), "all"); err != nil || n != stay {
		t.Errorf("after it: %d, %v", n, err)
	}
	if err := h.Look(ctx, func(*Seen) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a look that nobody waits for: %v", err)
	}
}

// fated is a subscriber with a fate.
type fated struct {
	sink
	queued, dropped bool
}

func (f *fated) Fate() (queued, dropped bool) { return f.queued, f.dropped }

// Facts are kept of the messages that come while somebody watches, and of no others.
func TestFacts(t *testing.T) {
	h, _ := start(t, Config{Shards: 2, InboxMessages: 100, RecentMessages: 100, RecentBytes: 1 << 20}, 0)
	var last *Subscriber
	for i := range 10 {
		last = attach(h, &fated{queued: i == 3 || i == 4, dropped: i == 5})
		join(last, Now, "a")
		join(last, Now, ">")
	}
	begin := time.Now()
	publish := func(seq uint64, channel string) {
		m := stored(seq, channel)
		m.Accepted = begin
		h.Publish(m)
	}
	look := func(seq uint64) (Fact, bool) {
		t.Helper()
		f, known, err := h.Fact(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		return f, known
	}
	publish(1, "a")
	if f, known := look(1); known {
		t.Errorf("nobody watches: got %+v", f)
	}
	h.Watch(true)
	publish(2, "a")
	if f, known := look(1); known {
		t.Errorf("before: got %+v", f)
	}
	f, known := look(2)
	if f.Took <= 0 || f.Took > time.Since(begin) {
		t.Errorf("took %s", f.Took)
	}
	if f.Took = 0; !known || f != (Fact{Seq: 2, Clients: 10, Queued: 2, Dropped: 1}) {
		t.Errorf("got %+v, %v", f, known)
	}
	if f, known := look(3); known {
		t.Errorf("of what is to come: got %+v", f)
	}
	for seq := uint64(3); seq <= factsKept+2*windowSize; seq++ { // some of which are still on their way
		publish(seq, "a")
	}
	if f, known := look(2); known {
		t.Errorf("of what is long ago: got %+v", f)
	}
	if f, known := look(factsKept + 10); !known || f.Clients != 10 {
		t.Errorf("of the newest: got %+v, %v", f, known)
	}
	h.Watch(false)
	if f, known := look(factsKept + 10); known {
		t.Errorf("nobody watches any more: got %+v", f)
	}
	settle(last)
}

// A message that nobody follows has no clients, and that is known.
func TestFactOfNobody(t *testing.T) {
	h, _ := start(t, Config{Shards: 2, InboxMessages: 100, RecentMessages: 100, RecentBytes: 1 << 20}, 0)
	h.Watch(true)
	h.Publish(stored(1, "a"))
	f, known, err := h.Fact(t.Context(), 1)
	if err != nil || !known || f != (Fact{Seq: 1}) {
		t.Errorf("got %+v, %v, %v", f, known, err)
	}
}
