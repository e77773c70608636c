package hub

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/herald-push/herald/proto"
)

// Config bounds the hub.
type Config struct {
	Shards int // usually runtime.GOMAXPROCS(0)
	// InboxMessages is how many messages may wait for one shard before
	// Publish waits.
	InboxMessages int
	// RecentMessages and RecentBytes bound what is kept for clients that come back.
	RecentMessages, RecentBytes int
}

// Hub is the set of shards. New makes it, Run runs it. Publish has one caller
// at a time; everything else is safe for concurrent use.
type Hub struct {
	shards []*shard
	recent *Recent
	next   atomic.Uint32
	m      *metrics
}

// Sink takes a connection's messages. The shard's goroutine calls it; no
// method may block or call back into the hub.
type Sink interface {
	// Deliver sends the messages, as far as the socket takes them, and queues
	// the rest. The batch is the shard's.
	Deliver(*Batch)
	// Gap says that messages after since up to upTo are lost for everybody.
	Gap(since, upTo proto.Cursor)
	// Reset says that the stream was made anew: every sequence is void.
	Reset()
}

// New makes a hub. Before the first message, Start says where it begins.
func New(cfg Config, m *Metrics) *Hub {
	h := &Hub{recent: newRecent(cfg.RecentMessages, cfg.RecentBytes), m: m.of()}
	for range max(1, cfg.Shards) {
		h.shards = append(h.shards, newShard(h.recent, cfg.InboxMessages, h.m))
	}
	return h
}

// Run runs the shards until ctx ends, and returns when they have delivered
// what was handed in before.
func (h *Hub) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range h.shards {
		wg.Go(s.run) // ends with stop below
	}
	<-ctx.Done()
	for _, s := range h.shards {
		s.stop()
	}
	wg.Wait()
}

// Shards is how many there are.
func (h *Hub) Shards() int { return len(h.shards) }

// Recent is the ring of the newest messages.
func (h *Hub) Recent() *Recent { return h.recent }

// Publish hands in one message; stored ones in ascending order of their
// sequence, which is the caller's promise. It waits while a shard is behind.
func (h *Hub) Publish(m *Message) {
	if m.Seq > 0 {
		h.recent.add(m)
	}
	for _, s := range h.shards {
		s.put(item{message: m})
	}
}

// Start sets the place from which on messages are handed in, and forgets
// everything before: at the start, and, with reset, when the stream was made
// anew.
func (h *Hub) Start(at proto.Cursor, reset bool) {
	h.recent.reset(at)
	for _, s := range h.shards {
		s.put(item{command: func() { s.start(at, reset) }})
	}
}

// Gap tells every subscriber that the messages after since up to upTo are
// lost; upTo is the new position. Recent forgets what is before it, so that
// nobody is served across the hole.
func (h *Hub) Gap(since, upTo proto.Cursor) {
	h.recent.reset(upTo)
	for _, s := range h.shards {
		s.put(item{command: func() { s.gap(since, upTo) }})
	}
}

// Subscriber is a connection as the hub sees it: memory of the caller's, which
// makes it part of what it has for each client anyway. Attach makes it usable;
// from then on it must not be copied.
// Its methods are safe for concurrent use and act in the order in which they
// are called.
type Subscriber struct {
	// Owned by the shard. What a visit looks at stands together: with many
	// subscribers each cache line that it touches has to be fetched anew.
	turn  uint64  // it has what it is to get of all messages up to this one: see window
	held  []held  // its subscriptions: few, so a slice
	first [1]held // where held begins: most have one
	place int     // index in shard.members
	gone  bool

	shard *shard // fixed by Attach
	sink  Sink   // likewise
}

// Attach adds a connection to the next shard, without any subscription.
func (h *Hub) Attach(sub *Subscriber, sink Sink) {
	s := h.shards[int(h.next.Add(1))%len(h.shards)]
	*sub = Subscriber{shard: s, sink: sink}
	sub.held = sub.first[:0]
	s.put(item{command: func() { s.attach(sub) }})
}

// Joined is the answer to Join.
type Joined struct {
	// OK: the subscription is live. Otherwise nothing happened, since the
	// messages missed are too many for one go, or older than the ring: fetch
	// some of them, and join again with a later since. Never with Now, unless
	// the subscriber is detached.
	OK bool
	// Position is the place from which the subscription is live: everything
	// up to it was delivered or lies before since.
	Position proto.Cursor
}

// Now as since means "from here on".
const Now = ^uint64(0)

// Join subscribes to the channels or patterns, delivers first what they
// missed after since, and goes live, without gap or duplicate. What the
// subscriber gets through another subscription is not delivered again; for
// these names, that is everything after had, since or earlier: where the caller
// itself has delivered what lies between them.
//
// done is called in the shard's goroutine after the missed messages were
// delivered and before any live one; it must not block. Names that are
// subscribed already keep their subscription.
func (s *Subscriber) Join(had, since uint64, names []string, done func(Joined)) {
	s.shard.put(item{command: func() { s.shard.join(s, had, since, names, done) }})
}

// Leave ends subscriptions. done is called in the shard's goroutine; after it
// nothing of these channels is delivered.
func (s *Subscriber) Leave(names []string, done func()) {
	s.shard.put(item{command: func() { s.shard.leave(s, names); done() }})
}

// Detach ends everything. No method of the sink is called after done.
func (s *Subscriber) Detach(done func()) {
	s.shard.put(item{command: func() { s.shard.detach(s); done() }})
}
