package hub

import (
	"slices"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
)

// shard owns its subscribers. Only its goroutine, run, touches what is below
// the inbox.
type shard struct {
	recent      *Recent // fixed
	m           *metrics
	maxMessages int

	// The inbox. Commands are not bounded: each waits for an answer, so there
	// are no more than connections.
	mu       sync.Mutex
	cond     *sync.Cond // signals that inbox grew (to run) or shrank (to put)
	inbox    []item     // guarded by mu
	messages int        // guarded by mu; how many of inbox are messages
	stopped  bool       // guarded by mu

	// Owned by run.
	channels  map[string]*subscriptions
	patterns  patterns
	members   []*Subscriber
	position  proto.Cursor // the newest stored message delivered
	turn      uint64       // counts messages, ephemeral ones too
	dirty     []*Subscriber
	unwritten int // messages queued at subscribers since the last flush
	awaited   []awaited
}

// awaited is a message of the current batch whose Written is to be called.
type awaited struct {
	message     *Message
	subscribers int
}

type item struct {
	message *Message
	command func()
}

// subscriptions are those of one channel or pattern.
type subscriptions struct{ list []subscription }

type subscription struct {
	*Subscriber
	// after: live messages up to here are not for the subscriber, which has
	// them. It is ahead of the shard where a client comes from a gateway that was.
	after uint64
	// had: what is after this comes, or came, through this subscription.
	had uint64
}

// flushAfter bounds what one batch queues before it is written: references of
// 24 bytes, so less than a megabyte per shard.
const flushAfter = 32 << 10

// replayMax and replayBytes are how much Join delivers in the shard's own time:
// nobody waits here until the client has read, so it must fit into a queue.
// More is sent by the connection's goroutine, chunk by chunk.
const (
	replayMax   = 256
	replayBytes = 32 << 10 // or one message
)

func newShard(r *Recent, maxMessages int, m *metrics) *shard {
	s := &shard{recent: r, m: m, maxMessages: maxMessages, channels: map[string]*subscriptions{}}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *shard) put(it item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for it.message != nil && s.messages >= s.maxMessages && !s.stopped {
		s.cond.Wait()
	}
	if s.stopped && it.message != nil {
		return
	}
	s.inbox = append(s.inbox, it)
	if it.message != nil {
		s.messages++
	}
	s.cond.Broadcast()
}

func (s *shard) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cond.Broadcast()
}

// run takes the whole inbox at a time. Messages that waited together reach
// each subscriber in one write, because it is flushed once at the end.
func (s *shard) run() {
	var batch []item
	for {
		s.mu.Lock()
		for len(s.inbox) == 0 && !s.stopped {
			s.cond.Wait()
		}
		if len(s.inbox) == 0 {
			s.mu.Unlock()
			return
		}
		batch, s.inbox = s.inbox, batch[:0]
		s.messages = 0
		s.mu.Unlock()
		s.cond.Broadcast()

		for i := range batch {
			if m := batch[i].message; m != nil {
				n := s.deliver(m)
				if m.Written != nil {
					s.awaited = append(s.awaited, awaited{m, n})
				}
			} else {
				batch[i].command()
			}
			if s.unwritten >= flushAfter {
				s.flush()
			}
		}
		s.flush()
		now := time.Now()
		for i := range batch {
			if m := batch[i].message; m != nil && !m.Accepted.IsZero() {
				s.m.latency.Observe(now.Sub(m.Accepted).Seconds())
			}
		}
		for _, a := range s.awaited {
			a.message.Written(a.subscribers)
		}
		clear(s.awaited)
		s.awaited = s.awaited[:0]
		clear(batch)
	}
}

// deliver queues a message and says at how many subscribers.
func (s *shard) deliver(m *Message) int {
	if m.Seq > 0 {
		s.position.Seq = m.Seq
	}
	s.turn++
	n := 0
	each := func(subs *subscriptions) {
		for i := range subs.list {
			sub := &subs.list[i]
			if sub.turn == s.turn || m.Seq > 0 && m.Seq <= sub.after {
				continue
			}
			sub.turn = s.turn
			sub.sink.Send(m)
			s.mark(sub.Subscriber)
			n++
		}
	}
	if subs := s.channels[m.Channel]; subs != nil {
		each(subs)
	}
	s.patterns.match(m.Channel, each)
	s.unwritten += n
	s.m.deliveries.Add(float64(n))
	return n
}

func (s *shard) mark(sub *Subscriber) {
	if !sub.dirty {
		sub.dirty = true
		s.dirty = append(s.dirty, sub)
	}
}

func (s *shard) flush() {
	for _, sub := range s.dirty {
		sub.dirty = false
		if !sub.gone {
			sub.sink.Flush()
		}
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
	s.unwritten = 0
}

func (s *shard) attach(sub *Subscriber) {
	sub.place = len(s.members)
	s.members = append(s.members, sub)
}

func (s *shard) detach(sub *Subscriber) {
	for len(sub.held) > 0 {
		s.drop(sub, len(sub.held)-1)
	}
	last := len(s.members) - 1
	s.members[sub.place] = s.members[last]
	s.members[sub.place].place = sub.place
	s.members[last] = nil
	s.members = s.members[:last]
	sub.gone = true
}

func (s *shard) join(sub *Subscriber, had, since uint64, names []string, done func(Joined)) {
	if sub.gone {
		done(Joined{})
		return
	}
	fresh := make([]string, 0, len(names))
	for _, name := range names {
		if held := s.held(sub, name); held != nil {
			held.had = min(held.had, had)
		} else if !slices.Contains(fresh, name) {
			fresh = append(fresh, name)
		}
	}
	position := s.position
	if since != Now { // the ring may have moved past a shard that is behind; now is now all the same
		missed, more, ok := s.recent.Between(proto.Cursor{Epoch: position.Epoch, Seq: since}, position.Seq, fresh, replayMax)
		if !ok || more || tooLarge(missed) {
			done(Joined{})
			return
		}
		for _, m := range missed {
			if !s.has(sub, m) {
				sub.sink.Send(m)
			}
		}
		position.Seq = max(since, position.Seq)
	}
	for _, name := range fresh {
		s.add(sub, name, position.Seq, min(had, position.Seq))
	}
	done(Joined{OK: true, Position: position})
	s.mark(sub)
}

func tooLarge(missed []*Message) bool {
	bytes := 0
	for _, m := range missed {
		bytes += len(m.Body)
	}
	return len(missed) > 1 && bytes > replayBytes
}

// held is the subscriber's subscription of this name, or nil.
func (s *shard) held(sub *Subscriber, name string) *subscription {
	for _, h := range sub.held {
		if h.name == name {
			return &s.subscriptions(name).list[h.place]
		}
	}
	return nil
}

// has reports whether the subscriber got m through another subscription.
func (s *shard) has(sub *Subscriber, m *Message) bool {
	for _, h := range sub.held {
		if proto.Match(h.name, m.Channel) && m.Seq > s.subscriptions(h.name).list[h.place].had {
			return true
		}
	}
	return false
}

func (s *shard) leave(sub *Subscriber, names []string) {
	for _, name := range names {
		if i := slices.IndexFunc(sub.held, func(h holder) bool { return h.name == name }); i >= 0 {
			s.drop(sub, i)
		}
	}
}

func (s *shard) subscriptions(name string) *subscriptions {
	if proto.IsPattern(name) {
		return s.patterns.get(name)
	}
	return s.channels[name]
}

func (s *shard) add(sub *Subscriber, name string, after, had uint64) {
	var subs *subscriptions
	if proto.IsPattern(name) {
		subs = s.patterns.at(name)
	} else if subs = s.channels[name]; subs == nil {
		subs = &subscriptions{}
		s.channels[name] = subs
	}
	sub.held = append(sub.held, holder{name, len(subs.list)})
	subs.list = append(subs.list, subscription{sub, after, had})
	s.m.subscriptions.Inc()
}

// drop ends the i-th subscription of sub by moving the last one of the
// channel into its place: constant time, however many follow the channel.
func (s *shard) drop(sub *Subscriber, i int) {
	h := sub.held[i]
	subs := s.subscriptions(h.name)
	last := len(subs.list) - 1
	if h.place != last {
		moved := subs.list[last]
		subs.list[h.place] = moved
		for j := range moved.held {
			if moved.held[j].name == h.name {
				moved.held[j].place = h.place
			}
		}
	}
	subs.list[last] = subscription{}
	subs.list = subs.list[:last]
	if last == 0 {
		if proto.IsPattern(h.name) {
			s.patterns.remove(h.name)
		} else {
			delete(s.channels, h.name)
		}
	}
	sub.held = slices.Delete(sub.held, i, i+1)
	s.m.subscriptions.Dec()
}

func (s *shard) start(at proto.Cursor, reset bool) {
	s.position = at
	if reset {
		for _, sub := range s.members {
			sub.sink.Reset()
		}
	}
}

func (s *shard) gap(since, upTo proto.Cursor) {
	s.position = upTo
	for _, sub := range s.members {
		if len(sub.held) > 0 {
			sub.sink.Gap(since, upTo)
			s.mark(sub)
		}
	}
}
