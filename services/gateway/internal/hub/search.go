package hub

import (
	"cmp"
	"hash/maphash"
	"runtime"
	"slices"
	"sort"

	"github.com/herald-push/herald/proto"
)

const (
	// pieceEntries is how many entries are copied under the lock at a time: a few
	// microseconds.
	pieceEntries = 512
	// walkSteps is how many entries of channels are followed under the lock.
	walkSteps = 1024
)

// Between returns the messages after since, up to and including upTo, of the
// channels that the names match, in stream order. ok is false where the
// ring does not reach back to since, or is of another epoch. At most
// maxMessages are returned; more says that the oldest of them were chosen and
// others may follow.
//
// It waits for its turn: few search at once, so that the processors are left
// to those who deliver. It is not for a shard.
func (r *Recent) Between(since proto.Cursor, upTo uint64, names []string, maxMessages int) (out []*Message, more,
	ok bool) {
	r.places <- struct{}{}
	defer func() { <-r.places }()
	return r.between(since, upTo, names, maxMessages, r.maxMessages)
}

// between is Between without waiting. It looks at most at reach entries; more
// is true where others follow them.
func (r *Recent) between(since proto.Cursor, upTo uint64, names []string, maxMessages, reach int) (out []*Message, more,
	ok bool) {
	out, done, ok := r.walk(since, upTo, names)
	if !done {
		out, more, ok = r.scan(since, upTo, names, maxMessages+1, reach)
	}
	if len(out) > maxMessages {
		return out[:maxMessages], true, ok
	}
	return out, more, ok
}

// has reports whether the ring reaches back to since. mu is held.
func (r *Recent) has(since proto.Cursor) bool {
	return since.Epoch == r.last.Epoch && since.Seq >= r.floor
}

// found is an entry as it was found under the lock.
type found struct {
	line
	number int
	made   *Message
}

func (e *entry) found(number int) found { return found{e.line, number, e.made.Load()} }

// messages are those of entries, in their order.
func (r *Recent) messages(all []found) []*Message {
	if len(all) == 0 {
		return nil
	}
	out := make([]*Message, len(all))
	for i, f := range all {
		out[i] = r.message(f)
	}
	return out
}

func (r *Recent) message(f found) *Message {
	if f.made != nil {
		return f.made
	}
	return r.keep(f.number, f.cut(f.seq, f.text), false)
}

// walk follows each channel's own chain backwards: the cost is that of the
// messages found, however full the ring is. done is false for patterns, and
// where so many messages are found that scan is cheaper.
func (r *Recent) walk(since proto.Cursor, upTo uint64, names []string) (out []*Message, done, ok bool) {
	all, done, ok := r.chains(since, upTo, names)
	return r.messages(all), done, ok
}

func (r *Recent) chains(since proto.Cursor, upTo uint64, names []string) (out []found, done, ok bool) {
	literal := !slices.ContainsFunc(names, proto.IsPattern)
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.has(since) {
		return nil, true, false
	}
	if since.Seq >= r.last.Seq || since.Seq >= upTo {
		return nil, true, true
	}
	if !literal {
		return nil, false, true
	}
	steps := 0
	for _, name := range names {
		hash := uint32(maphash.String(r.seed, name))
		i, there := r.number(r.ends[int(hash)&(len(r.ends)-1)], r.tail)
		for there && i >= r.head {
			e := r.at(i)
			if e.seq <= since.Seq {
				break
			}
			if steps++; steps > walkSteps {
				return nil, false, true
			}
			if e.seq <= upTo && e.channel == name {
				out = append(out, e.found(i))
			}
			i, there = i-int(e.back), e.back > 0
		}
	}
	slices.SortFunc(out, func(a, b found) int { return cmp.Compare(a.seq, b.seq) })
	return out, true, true
}

// scan looks at every entry after since, piece by piece, and matches each with
// all names at once, until it has found as many messages as are wanted. Where
// the ring has lost the next piece meanwhile, what was found before it is
// returned.
func (r *Recent) scan(since proto.Cursor, upTo uint64, names []string, most, reach int) (out []*Message, more,
	ok bool) {
	wanted := newMatcher(names)
	piece := make([]found, pieceEntries)
	for left := reach; len(out) < most; {
		n, ok := r.copyAfter(since, upTo, piece)
		if !ok {
			return out, true, len(out) > 0
		}
		if left -= n; left < 0 {
			return out, true, true
		}
		for _, f := range piece[:n] {
			if wanted.matches(f.channel) {
				if out = append(out, r.message(f)); len(out) == most {
					break
				}
			}
		}
		if n < len(piece) {
			break
		}
		since.Seq = piece[n-1].seq
		runtime.Gosched() // a shard may have something to deliver
	}
	return out, false, true
}

// copyAfter copies the first entries after since, up to upTo. ok is false where
// the ring does not reach back that far.
func (r *Recent) copyAfter(since proto.Cursor, upTo uint64, into []found) (n int, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.has(since) {
		return 0, false
	}
	for i := r.head + r.after(since.Seq); i < r.tail && n < len(into); i++ {
		e := r.at(i)
		if e.seq > upTo {
			break
		}
		into[n] = e.found(i)
		n++
	}
	return n, true
}

// Newest returns the place after which at most maxMessages of these channels
// are in the ring: where a client that missed too much is picked up again. It
// waits for its turn as Between does.
func (r *Recent) Newest(names []string, maxMessages int) (since uint64) {
	r.places <- struct{}{}
	defer func() { <-r.places }()
	wanted := newMatcher(names)
	piece := make([]found, pieceEntries)
	count := 0
	for before := Now; ; {
		n, floor := r.copyBefore(before, piece)
		for _, f := range piece[:n] {
			if !wanted.matches(f.channel) {
				continue
			}
			if count++; count > maxMessages {
				return max(f.seq, floor)
			}
		}
		if n < len(piece) {
			return floor
		}
		before = piece[n-1].seq
		runtime.Gosched()
	}
}

// copyBefore copies the last entries before a sequence, newest first.
func (r *Recent) copyBefore(before uint64, into []found) (n int, floor uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := r.tail - r.head
	end := sort.Search(all, func(i int) bool { return r.at(r.head+i).seq >= before })
	for i := r.head + end - 1; i >= r.head && n < len(into); i-- {
		into[n] = r.at(i).found(i)
		n++
	}
	return n, r.floor
}

// matcher finds out whether any of some names matches a channel, at a cost
// that does not grow with their number.
type matcher struct{ names patterns }

func newMatcher(names []string) *matcher {
	m := &matcher{}
	for _, name := range names {
		m.names.at(name)
	}
	return m
}

func (m *matcher) matches(channel string) (found bool) {
	m.names.match(channel, func(*subscriptions) { found = true })
	return found
}
