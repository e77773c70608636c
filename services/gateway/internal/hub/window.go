package hub

import (
	"math/bits"
	"runtime"
	"time"
)

// window holds the messages that a shard is delivering: at most as many as a word has
// bits, so that one word says which of them are for a list of subscribers.
//
// A message that is admitted gets a turn, a number that grows, and is marked in every
// list of subscribers that it is for. Each marked list is walked from its end to its
// beginning, in slices, so that a long list does not hold up short ones. A walk visits
// one subscriber after the other. A visit delivers everything in the window that is for
// the subscriber, through all of its subscriptions, in order, in one write per
// mergeBytes, and then sets the subscriber's turn to the newest one; later visits, of
// this walk or another, find nothing more to deliver. Hence a subscriber sees the
// stream's order however walks interleave; a message that matches two of its
// subscriptions is delivered once; and messages that wait together are written together.
//
// When every walk is over the window is emptied. When it is full, all walks are
// finished before the next message is admitted.
type window struct {
	turn    uint64 // of the newest message that was admitted
	first   uint64 // turn of entries[0]
	oldest  uint64 // the lowest sequence of a stored message in entries; 0: there is none
	entries [windowSize]transit
	n       int // how many of entries are used

	walks   []*subscriptions // lists that are being walked
	marked  []*subscriptions // lists that a message in entries is for, walked or not
	sent    int              // deliveries since the metric was updated
	since   int              // deliveries since the processor was last yielded
	merged  uint64           // the set of messages in batches
	batches []Batch          // what was delivered to the last subscriber that got several messages at once
}

// transit is one message in the window.
type transit struct {
	alone       [1]*Message
	batch       Batch // of this message alone
	seq         uint64
	walks       int   // lists that are not yet walked for it
	subscribers int   // to which it was delivered
	queued      int32 // of these, for how many it was enqueued; counted while facts are kept
	dropped     int32 // … for how many not, because their connection was closing; likewise
}

// walk is how far a list of subscribers has come. Its words are sets: bit i is
// window.entries[i].
type walk struct {
	pending uint64 // messages that are for the list
	undone  uint64 // those of pending that some subscriber may not have got yet
	current uint64 // those of undone that everybody has got when the walk under way ends
	at      int    // the walk under way has visited all subscribers from this index on
	walking bool   // the list is in window.walks
}

const (
	windowSize = 64 // bits of a word
	// quantum is how many subscribers of a list are visited before other lists and the
	// inbox have their turn: some 2 ms of writes.
	quantum = 256
	// mergeBytes is how much is merged into one write, unless one message has more.
	mergeBytes = 64 << 10
)

func (w *window) idle() bool { return len(w.walks) == 0 }

// last returns the newest turn of a set of messages.
func (w *window) last(set uint64) uint64 { return w.first + uint64(63-bits.LeadingZeros64(set)) }

// newer returns the set of messages whose turn is after this one.
func (w *window) newer(turn uint64) uint64 {
	if turn < w.first {
		return ^uint64(0)
	}
	return ^uint64(0) << (turn - w.first + 1) // 64 and more: none
}

// upTo returns the set of stored messages up to a sequence.
func (w *window) upTo(seq uint64) (set uint64) {
	for i := range w.entries[:w.n] {
		if s := w.entries[i].seq; s > 0 && s <= seq {
			set |= 1 << i
		}
	}
	return set
}

// shrunk records that a subscriber was removed, that the last one was moved to its place,
// and that n remain. If the walk has visited the last one already, it will visit that
// again, and find nothing to deliver.
func (w *walk) shrunk(n int) { w.at = min(w.at, n) }

// begin starts a walk at the end of the list, for all messages that are undone.
func (l *subscriptions) begin() { l.current, l.at = l.undone, len(l.list) }

// admit puts a message into the window and marks it in the lists that it is for. The
// shard's position is past it from now on; commands that follow see it as delivered,
// because they visit their subscriber first.
func (s *shard) admit(m *Message) {
	w := &s.window
	if w.n == windowSize {
		s.finish()
	}
	if m.Seq > 0 {
		s.position.Seq = m.Seq
		if w.oldest == 0 {
			w.oldest = m.Seq
		}
	}
	w.turn++
	if w.n == 0 {
		w.first = w.turn
	}
	e, bit := &w.entries[w.n], uint64(1)<<w.n
	w.n++
	e.alone[0], e.seq = m, m.Seq
	e.batch.Messages = e.alone[:]
	mark := func(l *subscriptions) {
		if l.pending == 0 {
			w.marked = append(w.marked, l)
		}
		l.pending |= bit
		l.undone |= bit
		e.walks++
		switch {
		case !l.walking:
			l.walking = true
			w.walks = append(w.walks, l)
			l.begin()
		case l.at == len(l.list): // the walk has visited nobody yet: it can deliver this message, too
			l.begin()
		}
	}
	if l := s.channels[m.Channel]; l != nil {
		mark(l)
	}
	s.patterns.match(m.Channel, mark)
	if e.walks == 0 {
		s.delivered(e)
	}
}

// slice continues each walk for s.quantum subscribers.
func (s *shard) slice() {
	w := &s.window
	going := w.walks[:0]
	for _, l := range w.walks {
		if s.advance(l) {
			going = append(going, l)
		}
	}
	clear(w.walks[len(going):])
	w.walks = going
	s.m.deliveries.Add(float64(w.sent))
	w.sent = 0
	if w.idle() {
		w.empty()
	}
}

// finish continues all walks to their end.
func (s *shard) finish() {
	for !s.window.idle() {
		s.slice()
	}
	s.window.empty()
}

func (w *window) empty() {
	for _, l := range w.marked {
		l.pending = 0
	}
	clear(w.marked)
	w.marked = w.marked[:0]
	for i := range w.entries[:w.n] {
		w.entries[i] = transit{}
	}
	w.n, w.oldest = 0, 0
	w.merged, w.batches = 0, nil
}

// advance visits the next s.quantum subscribers of a list, and reports whether the list
// must be walked further.
func (s *shard) advance(l *subscriptions) (more bool) {
	w := &s.window
	last := w.last(l.current)
	for range min(s.quantum, l.at) {
		l.at--
		if sub := l.list[l.at]; sub.turn < last {
			s.visit(sub)
		}
	}
	if w.since >= s.quantum { // deliveries are raw system calls, which the runtime cannot preempt
		w.since = 0
		runtime.Gosched()
	}
	if l.at > 0 {
		return true
	}
	for set := l.current; set != 0; set &= set - 1 {
		e := &w.entries[bits.TrailingZeros64(set)]
		if e.walks--; e.walks == 0 {
			s.delivered(e)
		}
	}
	l.undone &^= l.current
	if l.undone == 0 {
		l.walking = false
		return false
	}
	l.begin() // for messages that were admitted after this walk had visited somebody
	return true
}

// visit delivers to a subscriber everything in the window that is for it and that it
// has not got.
func (s *shard) visit(sub *Subscriber) {
	w := &s.window
	var due uint64
	for i := range sub.held {
		h := &sub.held[i]
		set := h.pending
		if set != 0 && h.after >= w.oldest && w.oldest > 0 {
			set &^= w.upTo(h.after)
		}
		due |= set
	}
	due &= w.newer(sub.turn)
	sub.turn = w.turn
	if due == 0 {
		return
	}
	w.sent += bits.OnesCount64(due)
	w.since++
	if due&(due-1) == 0 {
		e := &w.entries[bits.TrailingZeros64(due)]
		e.subscribers++
		sub.sink.Deliver(&e.batch)
		if s.facts != nil {
			w.fate(sub, due)
		}
		return
	}
	for set := due; set != 0; set &= set - 1 {
		w.entries[bits.TrailingZeros64(set)].subscribers++
	}
	if w.merged != due {
		w.merge(due)
	}
	for i := range w.batches {
		sub.sink.Deliver(&w.batches[i])
	}
	if s.facts != nil {
		w.fate(sub, due)
	}
}

// merge makes batches of at most mergeBytes of a set of messages. They are kept, because
// the next subscribers most often get the same set.
func (w *window) merge(set uint64) {
	w.merged, w.batches = set, nil
	bytes := mergeBytes
	for ; set != 0; set &= set - 1 {
		m := w.entries[bits.TrailingZeros64(set)].alone[0]
		if bytes+len(m.Body) > mergeBytes {
			w.batches, bytes = append(w.batches, Batch{}), 0
		}
		b := &w.batches[len(w.batches)-1]
		b.Messages = append(b.Messages, m)
		bytes += len(m.Body)
	}
}

// delivered is called when a message was delivered to every subscriber in this shard that
// it is for: it is written to their sockets or in their queues.
func (s *shard) delivered(e *transit) {
	m := e.alone[0]
	var took time.Duration
	if e.subscribers > 0 && !m.Accepted.IsZero() {
		took = time.Since(m.Accepted)
		s.m.latency.Observe(took.Seconds())
	}
	if s.facts != nil {
		fact := e.fact()
		fact.Took = max(0, took)
		s.facts.keep(fact)
	}
	if m.Written != nil {
		m.Written(e.subscribers)
	}
}
