package hub

import (
	"context"
	"math/bits"
	"time"
)

// factsKept is of how many messages a shard keeps facts: 40 bytes each, and only while they are watched.
const factsKept = 4096

// Fact is what became of a message.
type Fact struct {
	Seq     uint64
	Clients int // it was for
	Queued  int // of them, for whom it was enqueued, or came behind what is
	Dropped int // of them, whose connection was closing
	// Took is from acceptance by ingest until it was written or enqueued for the last of them.
	Took time.Duration
}

// Fated is a Sink that knows what becomes of what it was given. Fate is called after Deliver, only while facts are
// kept.
type Fated interface {
	Fate() (queued, dropped bool)
}

// facts are those of one shard, owned by it.
type facts struct {
	from uint64 // they are kept of messages after this sequence
	ring []Fact
	n    int // facts ever kept
}

// Watch has facts kept of the messages to come, or no longer.
func (h *Hub) Watch(keep bool) {
	for _, s := range h.shards {
		s.put(item{command: func() {
			switch {
			case !keep:
				s.facts = nil
			case s.facts == nil:
				s.facts = &facts{from: s.position.Seq}
			}
		}})
	}
}

// Fact returns what became of a message; false: facts of it were not kept, or no longer are. The error is ctx's.
func (h *Hub) Fact(ctx context.Context, seq uint64) (sum Fact, known bool, err error) {
	type part struct {
		fact  Fact
		known bool
	}
	parts := make(chan part, len(h.shards)) // never closed
	for _, s := range h.shards {
		s.put(item{command: func() {
			f, ok := s.fact(seq)
			parts <- part{f, ok}
		}})
	}
	sum, known = Fact{Seq: seq}, true
	for range h.shards {
		select {
		case p := <-parts:
			known = known && p.known
			sum.Clients += p.fact.Clients
			sum.Queued += p.fact.Queued
			sum.Dropped += p.fact.Dropped
			sum.Took = max(sum.Took, p.fact.Took)
		case <-ctx.Done():
			return Fact{}, false, ctx.Err()
		}
	}
	if !known {
		return Fact{}, false, nil
	}
	return sum, true, nil
}

// fact finds what became of a message in this shard. Of one that nobody followed there is none, and that is known, too.
func (s *shard) fact(seq uint64) (Fact, bool) {
	f := s.facts
	if f == nil || seq <= f.from || seq > s.position.Seq {
		return Fact{}, false
	}
	for i := range s.window.entries[:s.window.n] { // on its way
		if e := &s.window.entries[i]; e.seq == seq && e.walks > 0 {
			return e.fact(), true
		}
	}
	for i := range f.ring {
		if f.ring[i].Seq == seq {
			return f.ring[i], true
		}
	}
	if f.n > factsKept && seq < f.ring[f.n%factsKept].Seq { // older than the oldest
		return Fact{}, false
	}
	return Fact{}, true
}

func (e *transit) fact() Fact {
	return Fact{Seq: e.seq, Clients: e.subscribers, Queued: int(e.queued), Dropped: int(e.dropped)}
}

// keep keeps the fact of a message that was delivered.
func (f *facts) keep(fact Fact) {
	if fact.Seq == 0 || fact.Clients == 0 {
		return
	}
	if len(f.ring) < factsKept {
		f.ring = append(f.ring, fact)
	} else {
		f.ring[f.n%factsKept] = fact
	}
	f.n++
}

// fate notes what became of messages that a subscriber was given.
func (w *window) fate(sub *Subscriber, due uint64) {
	s, ok := sub.sink.(Fated)
	if !ok {
		return
	}
	queued, dropped := s.Fate()
	if !queued && !dropped {
		return
	}
	for ; due != 0; due &= due - 1 {
		e := &w.entries[bits.TrailingZeros64(due)]
		switch {
		case dropped:
			e.dropped++
		case queued:
			e.queued++
		}
	}
}
