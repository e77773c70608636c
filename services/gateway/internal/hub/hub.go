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

	passedMu sync.Mutex
	passed   proto.Cursor // what Pass was called with last; guarded by passedMu
}

// Sink is a subscriber's connection. The shard's goroutine calls it; no method may
// block or call back into the hub.
type Sink interface {
	// Deliver pushes the messages to the client, in their order. The batch is shared
	// with other subscribers, and valid until Deliver returns; the messages stay valid.
	Deliver(*Batch)
	// Gap says that messages after since up to upTo are missing for everybody, and
	// why (proto.GapExpired, proto.GapDamaged).
	Gap(since, upTo uint64, why string)
	// Passed says that the subscriber has everything of its channels up to a place,
	// though nothing of them may have come lately.
	Passed(upTo uint64)
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

// Publish puts one message into every shard's inbox, and blocks while one is full. The
// caller promises that stored messages come in ascending order of their sequence.
func (h *Hub) Publish(m *Message) {
	if m.Seq > 0 {
		h.recent.add(m)
	}
	for _, s := range h.shards {
		s.put(item{message: m})
	}
}

// Line is a message as it stands in its pack. Text and Channel may be parts of a longer
// text, which stays in memory as long as the ring of recent messages has one of them.
type Line struct {
	Seq      uint64 // as Message.Seq
	Channel  string
	Accepted int64 // Unix microseconds; 0: unknown
	Text     string
	// Cut makes the message. It may be called later, at any time, by several goroutines.
	Cut func(seq uint64, text string) *Message
}

// Offer is Publish for a message that is made only if somebody needs it: a subscriber,
// or one who comes back. A shard in which nobody follows the channel is not given it.
func (h *Hub) Offer(l Line) {
	number := -1
	if l.Seq > 0 {
		number = h.recent.put(line{l.Seq, l.Channel, l.Accepted, l.Text, l.Cut}, nil)
	}
	var m *Message
	message := func() *Message {
		if m == nil {
			if m = l.Cut(l.Seq, l.Text); number >= 0 {
				m = h.recent.keep(number, m, true)
			}
		}
		return m
	}
	for _, s := range h.shards {
		s.offer(l.Seq, l.Channel, message)
	}
}

// Start sets the position after which Publish is called next, and forgets all
// messages before it. The feed calls it when it begins and, with reset, when the
// stream was made anew.
func (h *Hub) Start(at proto.Cursor, reset bool) {
	h.recent.reset(at)
	for _, s := range h.shards {
		s.put(item{command: func() { s.start(at, reset) }})
	}
}

// Gap tells every subscriber that the messages after since up to upTo are
// missing; upTo is the new position. Recent forgets what is before it, so that
// nobody is served across the hole.
func (h *Hub) Gap(since, upTo uint64, why string) {
	h.recent.forget(upTo)
	for _, s := range h.shards {
		s.put(item{command: func() { s.gap(since, upTo, why) }})
	}
}

// Places tells a part of the subscribers how far they are, unless that is where
// they were when that part was told last. done, which may be nil, is called by each
// shard afterwards.
func (h *Hub) Places(part, parts int, done func()) {
	passed := h.Passed() // before put
	for _, s := range h.shards {
		s.put(item{command: func() {
			s.places(part, parts, passed)
			if done != nil {
				done()
			}
		}})
	}
}

// Pass says that everything up to a place has been handed in: the end of a pack,
// which may be past its last message.
func (h *Hub) Pass(upTo uint64) {
	at := h.recent.pass(upTo)
	h.passedMu.Lock()
	defer h.passedMu.Unlock()
	h.passed = at
}

// Passed is what Pass was called with last: everything up to it is in the inboxes, so before a command that is put
// there afterwards.
func (h *Hub) Passed() proto.Cursor {
	h.passedMu.Lock()
	defer h.passedMu.Unlock()
	return h.passed
}

// Subscriber is a connection as the hub knows it. Its memory is the caller's, who has
// some for each client anyway. Attach makes it usable; from then on it must not be
// copied.
// Its methods are safe for concurrent use and act in the order in which they
// are called.
type Subscriber struct {
	// Owned by the shard. What a visit looks at stands together: with many
	// subscribers each cache line that it touches has to be fetched anew.
	turn  uint64  // every message up to this turn was delivered to it, if it was for it: see window
	held  []held  // its subscriptions: few, so a slice
	first [1]held // the memory that held begins in: most have one subscription
	place int32   // index in shard.members
	gone  bool    // Detach was called

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
	// OK means that the subscription is live. If it is false nothing has happened: the
	// subscriber is detached, or has missed more messages than the shard delivers in
	// one go, or older ones than the ring has. In the latter case the caller delivers
	// some of them by itself, and joins again with a later since. With Now nothing was
	// missed.
	OK bool
	// Position is where the subscription begins to be live: every message up to it was
	// delivered, or is not after since.
	Position proto.Cursor
}

// Now as since means that the subscription begins with the next message.
const Now = ^uint64(0)

// Join subscribes to channels or patterns: it delivers the messages after since that
// the subscriber missed, and then live ones, without gap or duplicate. A message that
// the subscriber got through another subscription is not delivered again.
//
// had is at most since. The caller says by it that it has delivered all messages of
// these names after had and up to since itself, as a replay does; so a later Join with
// other names that match the same channels does not deliver them again.
//
// done is called in the shard's goroutine after the missed messages were delivered and
// before any live one; it must not block. Names that are subscribed already keep their
// subscription.
func (s *Subscriber) Join(had, since uint64, names []string, done func(Joined)) {
	s.shard.putJoin(names, item{command: func() { s.shard.join(s, had, since, names, done) }})
}

// Unsubscribe ends subscriptions. done is called in the shard's goroutine, when every
// message before was delivered; after it none of these channels is.
func (s *Subscriber) Unsubscribe(names []string, done func()) {
	s.shard.put(item{command: func() { s.shard.unsubscribe(s, names); done() }})
}

// Detach ends everything. No method of the sink is called after done.
func (s *Subscriber) Detach(done func()) {
	s.shard.put(item{command: func() { s.shard.detach(s); done() }})
}
