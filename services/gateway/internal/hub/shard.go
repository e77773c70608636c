package hub

import (
	"slices"
	"sync"

	"github.com/herald-push/herald/proto"
)

// shard owns its subscribers. Only its goroutine, run, touches what is below
// the inbox.
type shard struct {
	// Fixed after newShard.
	recent      *Recent
	m           *metrics
	maxMessages int
	quantum     int // the constant; tests make it smaller before the first message

	// The inbox. Commands are not bounded: each waits for an answer, so there
	// are no more than connections.
	mu       sync.Mutex
	cond     *sync.Cond // signals that inbox grew (to run) or shrank (to put)
	inbox    []item     // guarded by mu
	messages int        // guarded by mu; how many of inbox are messages
	stopped  bool       // guarded by mu
	// expected are the names of the joins in the inbox, and how often each is there, and
	// the patterns among them. A message that comes behind a join is for it.
	expected         map[string]int // guarded by mu
	expectedPatterns patterns       // guarded by mu

	// Owned by run, which changes them under mu: put looks into them.
	channels map[string]*subscriptions
	patterns patterns

	// Owned by run.
	members  []*Subscriber
	position proto.Cursor   // the newest stored message that was admitted to the window
	begun    proto.Cursor   // where position began
	told     []proto.Cursor // position when each part of the members was told of it
	window   window
	facts    *facts // nil: nobody watches
}

// item is a message, a command, or neither: then messages up to passed came that nobody
// here follows.
type item struct {
	message *Message
	command func()
	passed  uint64
}

func newShard(r *Recent, maxMessages int, m *metrics) *shard {
	s := &shard{recent: r, m: m, maxMessages: maxMessages, quantum: quantum, channels: map[string]*subscriptions{},
		expected: map[string]int{}}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// put appends a message or a command to the inbox.
func (s *shard) put(it item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.append(it)
}

// append is put for who holds mu.
func (s *shard) append(it item) {
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

// offer puts a message into the inbox if anybody here follows its channel, or is about
// to. Otherwise it only notes there how far messages have come, and does not wake the
// shard: with one subscriber per channel that saves every shard but one a wake-up, which
// is most of what such a message costs.
func (s *shard) offer(seq uint64, channel string, message func() *Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch last := len(s.inbox) - 1; {
	case s.follows(channel):
		s.append(item{message: message()})
	case seq == 0:
	case last >= 0 && s.inbox[last].passed > 0:
		s.inbox[last].passed = seq
	default:
		s.inbox = append(s.inbox, item{passed: seq})
	}
}

// putJoin puts a join into the inbox. Until it has been carried out messages of its
// names are put there, too, as if they were followed already.
func (s *shard) putJoin(names []string, it item) {
	join := it.command
	it.command = func() {
		join()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, name := range names {
			s.expect(name, -1)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		s.expect(name, 1)
	}
	s.append(it)
}

// expect counts a name of a join in or out. mu is held.
func (s *shard) expect(name string, by int) {
	n := s.expected[name] + by
	switch s.expected[name] = n; {
	case n == 0:
		delete(s.expected, name)
		if proto.IsPattern(name) {
			s.expectedPatterns.remove(name)
		}
	case n == 1 && by > 0 && proto.IsPattern(name):
		s.expectedPatterns.at(name)
	}
}

// follows reports whether anybody here follows the channel, or is about to. mu is held.
func (s *shard) follows(channel string) (found bool) {
	if s.channels[channel] != nil || len(s.expected) > 0 && s.expected[channel] > 0 {
		return true
	}
	each := func(*subscriptions) { found = true }
	s.patterns.match(channel, each)
	s.expectedPatterns.match(channel, each)
	return found
}

func (s *shard) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cond.Broadcast()
}

// run empties the whole inbox at a time, so that messages which waited together reach
// each subscriber in one write, and looks into it again after each slice of the walks.
func (s *shard) run() {
	var batch []item
	for {
		batch = s.next(batch)
		if batch == nil {
			return
		}
		for i := range batch {
			switch it := &batch[i]; {
			case it.message != nil:
				s.admit(it.message)
			case it.command != nil:
				it.command()
			default:
				s.position.Seq = it.passed
			}
		}
		clear(batch)
		s.slice()
	}
}

// next returns the items of the inbox, and puts an empty slice in their place. It waits
// for some unless a walk is under way. nil means that the shard was stopped and that
// everything is delivered.
func (s *shard) next(empty []item) (batch []item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.inbox) == 0 && s.window.idle() {
		if s.stopped {
			return nil
		}
		s.cond.Wait()
	}
	if batch = s.inbox; batch == nil {
		batch = []item{}
	}
	s.inbox = empty[:0]
	if s.messages > 0 {
		s.messages = 0
		s.cond.Broadcast()
	}
	return batch
}

func (s *shard) start(at proto.Cursor, reset bool) {
	s.finish()
	s.position, s.begun = at, at
	if reset {
		for _, sub := range s.members {
			sub.sink.Reset()
		}
	}
}

// places tells a part of the members where the shard is. passed is a place up to
// which everything stood in the inbox before this command: the end of the newest
// pack is newer than its last message, and a client that keeps less would miss
// something, as far as anybody knows, once the pack has expired.
func (s *shard) places(part, parts int, passed proto.Cursor) {
	at := s.position
	if passed.Epoch == at.Epoch {
		at.Seq = max(at.Seq, passed.Seq)
	}
	if len(s.told) != parts {
		s.told = slices.Repeat([]proto.Cursor{s.begun}, parts)
	}
	if s.told[part] == at {
		return
	}
	s.told[part] = at
	s.finish() // position is the newest message in the window
	for i := part; i < len(s.members); i += parts {
		if sub := s.members[i]; len(sub.held) > 0 {
			sub.sink.Passed(at.Seq)
		}
	}
}

func (s *shard) gap(since, upTo uint64, why string) {
	s.finish()
	s.position.Seq = upTo
	for _, sub := range s.members {
		if len(sub.held) > 0 {
			sub.sink.Gap(since, upTo, why)
		}
	}
}
