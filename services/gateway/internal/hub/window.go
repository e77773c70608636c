package hub

import (
	"math/bits"
	"runtime"
	"time"
)

// window is the messages that a shard is delivering: few enough that one word
// of bits says which of them somebody is owed.
//
// Each message that is taken in has a turn, and marks the lists of
// subscriptions that it is for. Each such list is walked, from its end to its
// beginning, in slices, so that no large one keeps a small one waiting. A
// visit gives a subscriber everything that it is owed by now, through all of
// its subscriptions, in order, in one write per joinBytes, and notes the newest turn:
// later visits of the same walk or of others find nothing left to do. That
// gives three things at once: a subscriber sees stream order however the walks
// interleave; overlapping patterns deliver once; and messages that wait
// together leave together.
//
// When all is delivered the window is emptied. When it is full, all walks are
// taken to their end before the next message is.
type window struct {
	turn    uint64 // of the newest message taken in
	first   uint64 // turn of entries[0]
	oldest  uint64 // the least sequence of a stored message here, or 0
	entries [windowSize]transit
	n       int

	walks   []*subscriptions // lists that are being walked
	marked  []*subscriptions // lists that a message is for, walked or not
	sent    int              // deliveries since the metric was told
	since   int              // subscribers that were given something since the processor was last offered to others
	joined  uint64           // what batches is for
	batches []Batch          // made for the last subscriber that got several messages
}

// transit is one message on its way through the window.
type transit struct {
	alone       [1]*Message
	batch       Batch // of it alone
	seq         uint64
	walks       int // lists whose walk has not come past it
	subscribers int // that got it
}

// walk is a list's way through the window.
type walk struct {
	owed    uint64 // bits of the messages that are for the list
	due     uint64 // those of them that no walk has brought to all yet
	brings  uint64 // those of them that the walk under way will have brought to all
	at      int    // who stands before this is still to be visited
	walking bool
}

const (
	windowSize = 64 // bits of a word
	// quantum is how many subscribers of a list are visited before another
	// list, and the inbox, have their turn: some 2 ms of writes.
	quantum = 256
	// joinBytes is how much is joined into one write, unless one message has more.
	joinBytes = 64 << 10
)

func (w *window) idle() bool { return len(w.walks) == 0 }

// last is the newest turn among these messages.
func (w *window) last(set uint64) uint64 { return w.first + uint64(63-bits.LeadingZeros64(set)) }

// newer is the messages whose turn is after this one.
func (w *window) newer(turn uint64) uint64 {
	if turn < w.first {
		return ^uint64(0)
	}
	return ^uint64(0) << (turn - w.first + 1) // 64 and more: none
}

// upTo is the stored messages up to a sequence.
func (w *window) upTo(seq uint64) (set uint64) {
	for i := range w.entries[:w.n] {
		if s := w.entries[i].seq; s > 0 && s <= seq {
			set |= 1 << i
		}
	}
	return set
}

// shrunk: one has left, the last has moved into its place, and n remain.
func (w *walk) shrunk(n int) { w.at = min(w.at, n) }

// begin walks from the end, for everything that is due.
func (l *subscriptions) begin() { l.brings, l.at = l.due, len(l.list) }

// take marks a message as owed to everybody whom it is for. The position is
// past it from now on: commands that follow see it as delivered.
func (s *shard) take(m *Message) {
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
		if l.owed == 0 {
			w.marked = append(w.marked, l)
		}
		l.owed |= bit
		l.due |= bit
		e.walks++
		switch {
		case !l.walking:
			l.walking = true
			w.walks = append(w.walks, l)
			l.begin()
		case l.at == len(l.list): // nobody was visited yet
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

// slice takes each walk a little further.
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

// finish takes all walks to their end.
func (s *shard) finish() {
	for !s.window.idle() {
		s.slice()
	}
	s.window.empty()
}

func (w *window) empty() {
	for _, l := range w.marked {
		l.owed = 0
	}
	clear(w.marked)
	w.marked = w.marked[:0]
	for i := range w.entries[:w.n] {
		w.entries[i] = transit{}
	}
	w.n, w.oldest = 0, 0
	w.joined, w.batches = 0, nil
}

// advance visits the next few of a list, and reports whether more are left.
func (s *shard) advance(l *subscriptions) (more bool) {
	w := &s.window
	last := w.last(l.brings)
	for range min(s.quantum, l.at) {
		l.at--
		if sub := l.list[l.at]; sub.turn < last {
			s.visit(sub)
		}
	}
	if w.since >= s.quantum { // the runtime cannot interrupt the system calls that writes are
		w.since = 0
		runtime.Gosched()
	}
	if l.at > 0 {
		return true
	}
	for set := l.brings; set != 0; set &= set - 1 {
		e := &w.entries[bits.TrailingZeros64(set)]
		if e.walks--; e.walks == 0 {
			s.delivered(e)
		}
	}
	l.due &^= l.brings
	if l.due == 0 {
		l.walking = false
		return false
	}
	l.begin() // for what came after the first were visited
	return true
}

// visit gives a subscriber everything that it is owed.
func (s *shard) visit(sub *Subscriber) {
	w := &s.window
	var owed uint64
	for i := range sub.held {
		h := &sub.held[i]
		set := h.owed
		if set != 0 && h.after >= w.oldest && w.oldest > 0 {
			set &^= w.upTo(h.after)
		}
		owed |= set
	}
	owed &= w.newer(sub.turn)
	sub.turn = w.turn
	if owed == 0 {
		return
	}
	w.sent += bits.OnesCount64(owed)
	w.since++
	if owed&(owed-1) == 0 {
		e := &w.entries[bits.TrailingZeros64(owed)]
		e.subscribers++
		sub.sink.Deliver(&e.batch)
		return
	}
	for set := owed; set != 0; set &= set - 1 {
		w.entries[bits.TrailingZeros64(set)].subscribers++
	}
	if w.joined != owed {
		w.join(owed)
	}
	for i := range w.batches {
		sub.sink.Deliver(&w.batches[i])
	}
}

// join makes the batches of some messages. Most often the next subscribers get
// the same ones.
func (w *window) join(set uint64) {
	w.joined, w.batches = set, nil
	bytes := joinBytes
	for ; set != 0; set &= set - 1 {
		m := w.entries[bits.TrailingZeros64(set)].alone[0]
		if bytes+len(m.Body) > joinBytes {
			w.batches, bytes = append(w.batches, Batch{}), 0
		}
		b := &w.batches[len(w.batches)-1]
		b.Messages = append(b.Messages, m)
		bytes += len(m.Body)
	}
}

// delivered: everybody of this shard has got the message, or has it queued.
func (s *shard) delivered(e *transit) {
	m := e.alone[0]
	if e.subscribers > 0 && !m.Accepted.IsZero() {
		s.m.latency.Observe(time.Since(m.Accepted).Seconds())
	}
	if m.Written != nil {
		m.Written(e.subscribers)
	}
}
