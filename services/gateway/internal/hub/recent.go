package hub

import (
	"slices"
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
// use; written by the caller of Hub.Publish only.
type Recent struct {
	maxMessages, maxBytes int // fixed

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
	return &Recent{maxMessages: maxMessages, maxBytes: maxBytes, ring: make([]entry, min(1024, maxMessages)), ends: map[string]int{}}
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

// Between returns the messages after since, up to and including upTo, of the
// channels that the patterns take in, in stream order. ok is false where the
// ring does not reach back to since, or is of another epoch. At most
// maxMessages are returned; more says that the oldest of them were chosen and
// others follow.
func (r *Recent) Between(since proto.Cursor, upTo uint64, names []string, maxMessages int) (out []*Message, more, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if since.Epoch != r.last.Epoch || since.Seq < r.floor {
		return nil, false, false
	}
	if since.Seq >= r.last.Seq || since.Seq >= upTo {
		return nil, false, true
	}
	if slices.ContainsFunc(names, proto.IsPattern) {
		out = r.scan(since.Seq, upTo, names, maxMessages+1)
	} else {
		out = r.walk(since.Seq, upTo, names)
	}
	if len(out) > maxMessages {
		return out[:maxMessages], true, true
	}
	return out, false, true
}

// scan looks at every entry after since, until it has found as many as are
// wanted: for patterns.
func (r *Recent) scan(since, upTo uint64, names []string, most int) (out []*Message) {
	n := r.tail - r.head
	first := sort.Search(n, func(i int) bool { return r.ring[(r.head+i)%len(r.ring)].Seq > since })
	for i := r.head + first; i < r.tail && len(out) < most; i++ {
		e := &r.ring[i%len(r.ring)]
		if e.Seq > upTo {
			break
		}
		if proto.MatchAny(names, e.Channel) {
			out = append(out, e.Message)
		}
	}
	return out
}

// walk follows each channel's own chain backwards: the cost is that of the
// messages found, however full the ring is.
func (r *Recent) walk(since, upTo uint64, names []string) (out []*Message) {
	for _, name := range names {
		i, ok := r.ends[name]
		for ok && i >= r.head {
			e := &r.ring[i%len(r.ring)]
			if e.Seq <= since {
				break
			}
			if e.Seq <= upTo {
				out = append(out, e.Message)
			}
			i = e.prev
		}
	}
	slices.SortFunc(out, func(a, b *Message) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1 // never equal: names are different literal channels
	})
	return out
}

// Newest returns the place after which at most maxMessages of these channels
// are in the ring: where a client that missed too much is picked up again.
func (r *Recent) Newest(names []string, maxMessages int) (since uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := r.scan(r.floor, r.last.Seq, names, r.maxMessages)
	if len(all) <= maxMessages {
		return r.floor
	}
	return all[len(all)-maxMessages-1].Seq
}
