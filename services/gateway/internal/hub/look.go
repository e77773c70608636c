package hub

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// lookAtOnce is how many subscribers a shard shows before it goes on delivering: some 100 µs.
const lookAtOnce = 256

// Seen is a subscriber as Look shows it, valid until the call returns.
type Seen struct {
	Sink Sink
	// UpTo is the sequence up to which every message of its channels was delivered.
	UpTo uint64

	sub *Subscriber
}

// Subscriptions is how many channels and patterns it follows.
func (s *Seen) Subscriptions() int { return len(s.sub.held) }

// Name is the name of its i-th subscription.
func (s *Seen) Name(i int) string { return s.sub.held[i].name }

// Followers is how many subscribers of this shard the i-th subscription's name has, to the first of them; 0 to the
// others. So the sum over all subscribers is the number of subscriptions of each name.
func (s *Seen) Followers(i int) int {
	if h := &s.sub.held[i]; h.place == 0 {
		return len(h.list)
	}
	return 0
}

// Look calls see for every subscriber, in the goroutines of the shards, one shard after the other, in slices between
// which the shard delivers. see must not block or call the hub. A subscriber that is there all the time is seen at
// least once, and twice if others are removed meanwhile. The error is ctx's, or says that see panicked, which ends
// nobody's delivery.
func (h *Hub) Look(ctx context.Context, see func(*Seen)) error {
	for _, s := range h.shards {
		for from := -1; from != 0; {
			left := make(chan int, 1)     // nobody waits for it if ctx ends
			failed := make(chan error, 1) // likewise
			s.put(item{command: func() {
				defer func() {
					if v := recover(); v != nil {
						failed <- fmt.Errorf("panic while looking at subscribers: %v\n%s", v, debug.Stack())
					}
				}()
				left <- s.look(from, see)
			}})
			select {
			case from = <-left:
			case err := <-failed:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// look shows the members below an index, from the end on, since a member that is removed is replaced by the last one;
// -1: from the last one on. It returns the index below which they have not been shown.
func (s *shard) look(below int, see func(*Seen)) (left int) {
	if below < 0 || below > len(s.members) {
		below = len(s.members)
	}
	seen := Seen{UpTo: s.position.Seq}
	if !s.window.idle() && s.window.oldest > 0 {
		seen.UpTo = s.window.oldest - 1
	}
	left = max(0, below-lookAtOnce)
	for i := below - 1; i >= left; i-- {
		seen.sub = s.members[i]
		seen.Sink = seen.sub.sink
		see(&seen)
	}
	return left
}

// Followers is how many subscriptions match a channel now. The error is ctx's.
func (h *Hub) Followers(ctx context.Context, channel string) (n int, err error) {
	parts := make(chan int, len(h.shards)) // never closed
	for _, s := range h.shards {
		s.put(item{command: func() {
			part := 0
			if l := s.channels[channel]; l != nil {
				part = len(l.list)
			}
			s.patterns.match(channel, func(l *subscriptions) { part += len(l.list) })
			parts <- part
		}})
	}
	for range h.shards {
		select {
		case part := <-parts:
			n += part
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return n, nil
}

// Deliveries and Latency are the hub's figures of the same names.
func (h *Hub) Deliveries() prometheus.Counter { return h.m.deliveries }
func (h *Hub) Latency() prometheus.Histogram  { return h.m.latency }

// Subscriptions is how many there are now.
func (h *Hub) Subscriptions() prometheus.Gauge { return h.m.subscriptions }
