package hub

import (
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

	// Owned by run, which changes them under mu: put looks into them.
	channels map[string]*subscriptions
	patterns patterns

	// Owned by run.
	members  []*Subscriber
	position proto.Cursor // the newest stored message taken in
	window   window
}

type item struct {
	message *Message
	command func()
}

func newShard(r *Recent, maxMessages int, m *metrics) *shard {
	s := &shard{recent: r, m: m, maxMessages: maxMessages, quantum: quantum, channels: map[string]*subscriptions{}}
	s.cond = sync.NewCond(&s.mu)
	return s
}

// unheard is how many messages that are for nobody here may wait before the
// shard is woken for them.
const unheard = 256

// put hands in a message or a command. For a message that concerns nobody here
// a shard is not woken: it takes it in when something else wakes it, or when many
// have come. With one subscriber per channel that spares all wake-ups but one,
// and they are most of what such a message costs.
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
	if m := it.message; m != nil {
		s.messages++
		if m.Written == nil && s.messages < min(unheard, s.maxMessages) && !s.follows(m.Channel) {
			return
		}
	}
	s.cond.Broadcast()
}

// follows reports whether anybody here follows the channel. mu is held.
func (s *shard) follows(channel string) (found bool) {
	if found = s.channels[channel] != nil; !found {
		s.patterns.match(channel, func(*subscriptions) { found = true })
	}
	return found
}

func (s *shard) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cond.Broadcast()
}

// run takes the whole inbox at a time, so that messages which waited together
// reach each subscriber in one write, and looks into it again after each
// slice of a large fan-out.
func (s *shard) run() {
	var batch []item
	for {
		batch = s.next(batch)
		if batch == nil {
			return
		}
		for i := range batch {
			if m := batch[i].message; m != nil {
				s.take(m)
			} else {
				batch[i].command()
			}
		}
		clear(batch)
		s.slice()
	}
}

// next waits for items, unless there is something to deliver meanwhile, and
// takes them in exchange for an empty slice. nil means that the shard was
// stopped and everything is delivered.
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
	s.position = at
	if reset {
		for _, sub := range s.members {
			sub.sink.Reset()
		}
	}
}

func (s *shard) gap(since, upTo proto.Cursor) {
	s.finish()
	s.position = upTo
	for _, sub := range s.members {
		if len(sub.held) > 0 {
			sub.sink.Gap(since, upTo)
		}
	}
}
