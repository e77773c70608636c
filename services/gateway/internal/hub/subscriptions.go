package hub

import (
	"slices"

	"github.com/herald-push/herald/proto"
)

// subscriptions are those of one channel or pattern.
type subscriptions struct {
	name string
	list []*Subscriber
	walk
}

// held is one subscription, where its subscriber keeps it.
type held struct {
	*subscriptions
	place int // index in list
	// after is the sequence up to which live messages are not delivered through this
	// subscription, because the client has got them. It may be newer than the shard's
	// position: the client got them from another gateway, which had received them
	// earlier.
	after uint64
	// had is the sequence after which every message of this name was or will be
	// delivered, by this subscription or by the replay before it. It is at most after.
	had uint64
}

// replayMax, replayReach and replayBytes bound what Join delivers in the shard's
// goroutine, which cannot wait until the client has read: it must fit into a
// connection's queue, and must not hold up the shard's other subscribers. The session
// delivers more than that by itself, page by page, before it joins.
const (
	replayMax   = 256
	replayReach = 4096     // messages of any channel that are searched
	replayBytes = 32 << 10 // or one message
)

func (s *shard) attach(sub *Subscriber) {
	sub.place = int32(len(s.members))
	s.members = append(s.members, sub)
}

func (s *shard) detach(sub *Subscriber) {
	s.visit(sub) // the messages that were published before
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
	s.visit(sub) // the missed messages come behind those of other subscriptions
	fresh := make([]string, 0, len(names))
	for _, name := range names {
		if i := sub.holds(name); i >= 0 {
			sub.held[i].had = min(sub.held[i].had, had)
		} else if !slices.Contains(fresh, name) {
			fresh = append(fresh, name)
		}
	}
	position := s.position
	if since != Now { // with Now the ring is not asked: it may be ahead of this shard
		missed, more, ok := s.recent.between(proto.Cursor{Epoch: position.Epoch, Seq: since}, position.Seq, fresh,
			replayMax, s.reach())
		if !ok || more || tooLarge(missed) {
			done(Joined{})
			return
		}
		missed = slices.DeleteFunc(missed, func(m *Message) bool { return sub.has(m) || m.Expired() })
		if len(missed) > 0 {
			sub.sink.Deliver(&Batch{Messages: missed})
		}
		position.Seq = max(since, position.Seq)
	}
	for _, name := range fresh {
		s.add(sub, name, position.Seq, min(had, position.Seq))
	}
	done(Joined{OK: true, Position: position})
}

// reach is how many messages Join looks at in the shard's own time: as many as
// may have come in while the command waited behind them, and replayReach.
func (s *shard) reach() int { return s.maxMessages + replayReach }

func tooLarge(missed []*Message) bool {
	bytes := 0
	for _, m := range missed {
		bytes += len(m.Body)
	}
	return len(missed) > 1 && bytes > replayBytes
}

// holds is the index of the subscription of this name, or -1.
func (s *Subscriber) holds(name string) int {
	return slices.IndexFunc(s.held, func(h held) bool { return h.name == name })
}

// has reports whether m was or will be delivered through a subscription that the
// subscriber has.
func (s *Subscriber) has(m *Message) bool {
	return slices.ContainsFunc(s.held, func(h held) bool { return m.Seq > h.had && proto.Match(h.name, m.Channel) })
}

func (s *shard) unsubscribe(sub *Subscriber, names []string) {
	s.visit(sub) // the messages that were published before
	for _, name := range names {
		if i := sub.holds(name); i >= 0 {
			s.drop(sub, i)
		}
	}
}

func (s *shard) add(sub *Subscriber, name string, after, had uint64) {
	l := s.list(name)
	sub.held = append(sub.held, held{l, len(l.list), after, had})
	l.list = append(l.list, sub)
	s.m.subscriptions.Inc()
}

// list returns the list of subscribers of a channel or pattern, and makes it if there is
// none.
func (s *shard) list(name string) *subscriptions {
	if proto.IsPattern(name) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.patterns.at(name)
	}
	l := s.channels[name]
	if l == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		l = &subscriptions{name: name}
		s.channels[name] = l
	}
	return l
}

// forget removes the list of a channel or pattern that nobody follows any more.
func (s *shard) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if proto.IsPattern(name) {
		s.patterns.remove(name)
	} else {
		delete(s.channels, name)
	}
}

// drop ends the i-th subscription of sub. It moves the last subscriber of the list to
// the free place, which takes constant time however long the list is.
func (s *shard) drop(sub *Subscriber, i int) {
	l, place := sub.held[i].subscriptions, sub.held[i].place
	last := len(l.list) - 1
	if place != last {
		moved := l.list[last]
		l.list[place] = moved
		moved.held[slices.IndexFunc(moved.held, func(h held) bool { return h.subscriptions == l })].place = place
	}
	l.list[last] = nil
	l.list = l.list[:last]
	l.shrunk(last)
	if last == 0 {
		s.forget(l.name)
	}
	sub.held = slices.Delete(sub.held, i, i+1)
	s.m.subscriptions.Dec()
}
