package hub

import (
	"runtime"
	"sort"
	"sync"

	"github.com/herald-push/herald/proto"
)

// Recent keeps the newest stored messages in memory, in stream order, bounded
// in number and bytes. Most clients that come back were away for seconds:
// they are served from here without asking the stream.
//
// It is complete: every stored message after Floor is here, unless it was
// deleted from the stream before this gateway saw it. Safe for concurrent
// use; written by the caller of Hub.Publish only. Readers hold mu for some
// microseconds at a time: the writer is what everybody's delivery waits for.
type Recent struct {
	maxMessages, maxBytes int           // fixed
	places                chan struct{} // one for each search under way; never closed

	mu    sync.RWMutex
	ring  []entry        // guarded by mu; a ring of len(ring) slots
	head  int            // guarded by mu; number of entries ever dropped: the oldest entry is ring[head%len]
	tail  int            // guarded by mu; number of entries ever added
	bytes int            // guarded by mu
	floor uint64         // guarded by mu; complete after this sequence
	last  proto.Cursor   // guarded by mu; the newest entry, or where the ring began
	ends  map[string]int // guarded by mu; channel → its newest entry, as counted by tail
}

type entry struct {
	*Message
	prev int // the channel's entry before, as counted by tail; -1: none
}

func newRecent(maxMessages, maxBytes int) *Recent {
	return &Recent{
		maxMessages: maxMessages, maxBytes: maxBytes, ring: make([]entry, min(1024, maxMessages)), ends: map[string]int{},
		places: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), // the other processors deliver
	}
}

// reset empties the ring: everything after this place is to come.
func (r *Recent) reset(at proto.Cursor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.ring)
	clear(r.ends)
	r.head, r.tail, r.bytes = 0, 0, 0
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
	return sort.Search(r.tail-r.head, func(i int) bool { return r.ring[(r.head+i)%len(r.ring)].Seq > seq })
}

func (r *Recent) add(m *Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.tail > r.head && (r.tail-r.head == r.maxMessages || r.bytes+len(m.Body) > r.maxBytes) {
		r.drop()
	}
	if r.tail-r.head == len(r.ring) {
		r.grow()
	}
	prev, ok := r.ends[m.Channel]
	if !ok {
		prev = -1
	}
	r.ring[r.tail%len(r.ring)] = entry{m, prev}
	r.ends[m.Channel] = r.tail
	r.tail++
	r.bytes += len(m.Body)
	r.last.Seq = m.Seq
}

func (r *Recent) drop() {
	e := &r.ring[r.head%len(r.ring)]
	if r.ends[e.Channel] == r.head {
		delete(r.ends, e.Channel)
	}
	r.bytes -= len(e.Body)
	r.floor = e.Seq
	*e = entry{}
	r.head++
}

func (r *Recent) grow() {
	bigger := make([]entry, min(2*len(r.ring), r.maxMessages))
	for i := r.head; i < r.tail; i++ {
		bigger[i%len(bigger)] = r.ring[i%len(r.ring)]
	}
	r.ring = bigger
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

// Lately calls each for the messages that are kept, the newest first, until it returns false. complete is false where
// each wanted more than are kept, and older ones were dropped.
func (r *Recent) Lately(each func(*Message) bool) (complete bool) {
	var piece [pieceEntries]*Message
	for before := Now; ; {
		n, _ := r.copyBefore(before, piece[:])
		for _, m := range piece[:n] {
			if !each(m) {
				return true
			}
		}
		if n < len(piece) {
			r.mu.RLock()
			defer r.mu.RUnlock()
			return r.head == 0
		}
		before = piece[n-1].Seq
		runtime.Gosched() // a shard may have something to deliver
	}
}
