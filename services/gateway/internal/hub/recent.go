package hub

import (
	"hash/maphash"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
)

// Recent keeps the newest stored messages in memory, in stream order, bounded
// in number and bytes. Most clients that come back were away for seconds:
// they are served from here without asking the stream.
//
// It keeps a message as the line of its pack, and makes a *Message of it when somebody
// first asks for it; so a message that nobody follows or asks for costs its line and an
// entry. The made one stays, and is shared by all who ask after that.
//
// It is complete: every stored message after Floor is here, unless it was
// deleted from the stream before this gateway saw it. Safe for concurrent
// use; written by the caller of Hub.Publish only. Readers hold mu for some
// microseconds at a time: the writer is what everybody's delivery waits for.
type Recent struct {
	maxMessages, maxBytes int           // fixed
	places                chan struct{} // one for each search under way; never closed
	seed                  maphash.Seed  // fixed

	mu    sync.RWMutex
	ring  []entry // guarded by mu; a ring of len(ring) slots
	head  int     // guarded by mu; the number of the oldest entry, ring[head%len]: so many were added before it
	tail  int     // guarded by mu; number of entries ever added
	begun int     // guarded by mu; the number of the first entry since the ring was emptied
	// ends is a hash table without buckets of its own: for each hash of a channel, modulo
	// its length, the low 32 bits of the number, counted by tail, that follows the newest
	// entry. Entries of one slot are linked by entry.back. Slots of entries that were
	// dropped are not cleared: their numbers are below head.
	ends  []uint32     // guarded by mu; its length is a power of two, twice that of ring at least
	bytes int          // guarded by mu; of lines, and of the bodies of messages that came made
	floor uint64       // guarded by mu; complete after this sequence
	last  proto.Cursor // guarded by mu; the newest entry, or where the ring began

	made atomic.Int64 // bytes of the bodies that were made of lines
}

// entry is one message of the ring: a line, a *Message, or both.
type entry struct {
	line
	made atomic.Pointer[Message] // nil: nobody has asked for it
	hash uint32                  // of the channel
	back uint32                  // how many entries before this one the next one of its slot in ends is; 0: none
}

// line is a stored message as it stands in its pack. Text and Channel are parts of the
// pack's text, which stays in memory as long as one of its entries does.
type line struct {
	seq      uint64
	channel  string
	accepted int64                                  // Unix microseconds; 0: unknown
	text     string                                 // empty: the message came made
	cut      func(seq uint64, text string) *Message // makes the message of the text
}

func newRecent(maxMessages, maxBytes int) *Recent {
	r := &Recent{
		maxMessages: maxMessages, maxBytes: maxBytes, ring: make([]entry, min(1024, maxMessages)),
		seed:   maphash.MakeSeed(),
		places: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), // the other processors deliver
	}
	r.ends = make([]uint32, slots(len(r.ring)))
	return r
}

// slots is the length of ends for a ring of n entries.
func slots(n int) int {
	slots := 2
	for slots < 2*n {
		slots *= 2
	}
	return slots
}

// reset empties the ring: everything after this place is to come.
func (r *Recent) reset(at proto.Cursor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.ring)
	clear(r.ends)
	r.begun, r.head, r.bytes = r.tail, r.tail, 0 // numbers are not used again: see keep
	r.made.Store(0)
	r.floor, r.last = at.Seq, at
}

// forget empties the ring, in the same epoch.
func (r *Recent) forget(upTo uint64) {
	at := r.Last()
	at.Seq = upTo
	r.reset(at)
}

// pass moves last on over places without a message.
func (r *Recent) pass(upTo uint64) proto.Cursor {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last.Seq = max(r.last.Seq, upTo)
	return proto.Cursor{Epoch: r.last.Epoch, Seq: upTo}
}

// Count is how many messages after since, up to and including upTo, the ring
// has.
func (r *Recent) Count(since, upTo uint64) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return max(0, r.after(upTo)-r.after(since))
}

// after is how many entries stand up to and including a place. mu is held.
func (r *Recent) after(seq uint64) int {
	return sort.Search(r.tail-r.head, func(i int) bool { return r.at(r.head+i).seq > seq })
}

// at is the entry with a number. mu is held.
func (r *Recent) at(i int) *entry { return &r.ring[i%len(r.ring)] }

// add adds a message that was made already.
func (r *Recent) add(m *Message) {
	l := line{seq: m.Seq, channel: m.Channel}
	if !m.Accepted.IsZero() {
		l.accepted = m.Accepted.UnixMicro()
	}
	r.put(l, m)
}

// put adds a message, and returns its number. m is nil where it is to be made of
// the line when somebody asks for it.
func (r *Recent) put(l line, m *Message) (number int) {
	hash, bytes := uint32(maphash.String(r.seed, l.channel)), len(l.text)
	if m != nil {
		bytes = len(m.Body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.tail > r.head && (r.tail-r.head == r.maxMessages || r.bytes+int(r.made.Load())+bytes > r.maxBytes) {
		r.drop()
	}
	if r.tail-r.head == len(r.ring) {
		r.grow()
	}
	e := r.at(r.tail)
	e.line, e.hash = l, hash
	e.made.Store(m)
	r.link(r.tail, e)
	r.tail++
	r.bytes += bytes
	r.last.Seq = l.seq
	return r.tail - 1
}

// link puts the newest entry into its slot of ends. mu is held.
func (r *Recent) link(i int, e *entry) {
	slot := &r.ends[int(e.hash)&(len(r.ends)-1)]
	e.back = 0
	if before, ok := r.number(*slot, i); ok {
		e.back = uint32(i - before)
	}
	*slot = uint32(i + 1)
}

// number is the entry that a slot of ends leads to, of those before i; ok is false where
// it was dropped, or never was. mu is held.
func (r *Recent) number(slot uint32, i int) (number int, ok bool) {
	back := int(uint32(i) - slot) // entries between the two
	number = i - back - 1
	return number, number >= r.head && number < i
}

func (r *Recent) drop() {
	e := r.at(r.head)
	m := e.made.Load()
	switch {
	case e.text == "":
		r.bytes -= len(m.Body)
	case m != nil:
		r.made.Add(-int64(len(m.Body)))
		fallthrough
	default:
		r.bytes -= len(e.text)
	}
	r.floor = e.seq
	e.line = line{}
	e.made.Store(nil)
	r.head++
}

func (r *Recent) grow() {
	old := r.ring
	r.ring = make([]entry, min(2*len(old), r.maxMessages))
	r.ends = make([]uint32, slots(len(r.ring)))
	for i := r.head; i < r.tail; i++ {
		from, to := &old[i%len(old)], r.at(i)
		to.line, to.hash = from.line, from.hash
		to.made.Store(from.made.Load())
		r.link(i, to)
	}
}

// keep keeps the message that was made of an entry for the next who asks, if the entry
// is still there. It returns the one to use: somebody else may have made one before.
// A message that is delivered now is kept in any case, and older ones make room for it
// when the next one comes; one for somebody who came back only where there is room.
func (r *Recent) keep(number int, m *Message, now bool) *Message {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if number < r.head || !now && r.bytes+int(r.made.Load())+len(m.Body) > r.maxBytes {
		return m
	}
	e := r.at(number)
	if !e.made.CompareAndSwap(nil, m) {
		return e.made.Load()
	}
	r.made.Add(int64(len(m.Body)))
	return m
}

// Last is the place of the newest stored message handed to Publish.
func (r *Recent) Last() proto.Cursor {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.last
}

// Floor is the sequence after which the ring is complete.
func (r *Recent) Floor() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.floor
}

// Late is a message that the ring keeps.
type Late struct {
	Channel  string
	Accepted time.Time // zero if unknown

	r *Recent
	f found
}

// Message is the message itself, which may have to be made.
func (l *Late) Message() *Message { return l.r.message(l.f) }

// Lately calls each for the messages that are kept, the newest first, until it returns false. complete is false where
// each wanted more than are kept, and older ones were dropped.
func (r *Recent) Lately(each func(Late) bool) (complete bool) {
	piece := make([]found, pieceEntries)
	for before := Now; ; {
		n, _ := r.copyBefore(before, piece)
		for _, f := range piece[:n] {
			l := Late{Channel: f.channel, r: r, f: f}
			if f.accepted > 0 {
				l.Accepted = time.UnixMicro(f.accepted)
			}
			if !each(l) {
				return true
			}
		}
		if n < len(piece) {
			r.mu.RLock()
			defer r.mu.RUnlock()
			return r.head == r.begun
		}
		before = piece[n-1].seq
		runtime.Gosched() // a shard may have something to deliver
	}
}
