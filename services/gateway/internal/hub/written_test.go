package hub

import (
	"sync"
	"testing"
)

// Whoever asks is told by each shard, once, after it wrote, how many of its
// subscribers a message was for.
func TestWritten(t *testing.T) {
	h, stop := start(t, Config{Shards: 3, InboxMessages: 10, RecentMessages: 10, RecentBytes: 1 << 10}, 0)
	if got := h.Shards(); got != 3 {
		t.Fatalf("shards: got %d, want 3", got)
	}
	sinks := make([]sink, 4) // one shard has two of them
	for i := range sinks {
		join(attach(h, &sinks[i]), Now, "a", ">")
	}
	join(attach(h, &sink{}), Now, "b")
	var mu sync.Mutex
	var told []int
	m := stored(1, "a")
	m.Written = func(n int) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, n)
	}
	h.Publish(m)
	h.Publish(stored(2, "a")) // nobody asks
	stop()
	sum := 0
	for _, n := range told {
		sum += n
	}
	if len(told) != 3 || sum != len(sinks) {
		t.Errorf("got %v, want three numbers that make %d", told, len(sinks))
	}
}
