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
	// after: live messages up to here are not for the subscriber, which has
	// them. It is ahead of the shard where a client comes from a gateway that was.
	after uint64
	// had: what is after this comes, or came, through this subscription.
	had uint64
}

// replayMax and replayBytes are how much Join delivers in the shard's own time:
// nobody waits here until the client has read, so it must fit into a queue.
// More is sent by the connection's goroutine, chunk by chunk.
const (
	replayMax   = 256
	replayReach = 4096     // messages of any channel, of which some are missed
	replayBytes = 32 << 10 // or one message
)

func (s *shard) attach(sub *Subscriber) {
	sub.place = len(s.members)
	s.members = append(s.members, sub)
}

func (s *shard) detach(sub *Subscriber) {
	s.visit(sub) // as when it leaves
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
	s.visit(sub) // what comes now, comes after what it is owed
	fresh := make([]string, 0, len(names))
	for _, name := range names {
		if i := sub.holds(name); i >= 0 {
			sub.held[i].had = min(sub.held[i].had, had)
		} else if !slices.Contains(fresh, name) {
			fresh = append(fresh, name)
		}
	}
	position := s.position
	if since != Now { // the ring may have moved past a shard that is behind; now is now all the same
		missed, more, ok := s.recent.between(proto.Cursor{Epoch: position.Epoch, Seq: since}, position.Seq, fresh, replayMax, s.reach())
		if !ok || more || tooLarge(missed) {
			done(Joined{})
			return
		}
		missed = slices.DeleteFunc(missed, sub.has)
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

// has reports whether the subscriber got m through a subscription that it holds.
func (s *Subscriber) has(m *Message) bool {
	return slices.ContainsFunc(s.held, func(h held) bool { return m.Seq > h.had && proto.Match(h.name, m.Channel) })
}

func (s *shard) leave(sub *Subscriber, names []string) {
	s.visit(sub) // what was published before comes before
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

// list finds or makes that of a name.
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

// forget is for a list without subscribers.
func (s *shard) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if proto.IsPattern(name) {
		s.patterns.remove(name)
	} else {
		delete(s.channels, name)
	}
}

// drop ends the i-th subscription of sub by moving the last one of the
// channel into its place: constant time, however many follow the channel.
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
