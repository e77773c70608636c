package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

// slice is what Recent promises, kept in the simplest way.
type slice struct {
	maxMessages, maxBytes int
	all                   []*Message
	floor, last           uint64
}

func (s *slice) add(m *Message) {
	s.all = append(s.all, m)
	s.last = m.Seq
	for len(s.all) > 1 && (len(s.all) > s.maxMessages || s.bytes() > s.maxBytes) {
		s.floor = s.all[0].Seq
		s.all = s.all[1:]
	}
}

func (s *slice) bytes() (n int) {
	for _, m := range s.all {
		n += len(m.Body)
	}
	return n
}

func (s *slice) between(since, upTo uint64, names []string) (out []*Message) {
	for _, m := range s.all {
		if m.Seq > since && m.Seq <= upTo &&
			slices.ContainsFunc(names, func(n string) bool { return matches(n, m.Channel) }) {
			out = append(out, m)
		}
	}
	return out
}

func TestRecentLikeASlice(t *testing.T) {
	r := random(t)
	for range 60 {
		s := &slice{maxMessages: 1 + r.IntN(60), maxBytes: 1 + r.IntN(600)}
		if r.IntN(4) == 0 { // enough to make the ring grow, past a power of two or not
			s.maxMessages, s.maxBytes = 900+r.IntN(1500), 1<<20
		}
		begin := uint64(r.IntN(5))
		s.floor, s.last = begin, begin
		recent := newRecent(s.maxMessages, s.maxBytes)
		recent.reset(at(begin))
		seq := begin
		for range 50 + r.IntN(3000) {
			seq += 1 + uint64(r.IntN(3))
			m := &Message{Seq: seq, Channel: randomName(r, false), Body: make([]byte, r.IntN(40))}
			if s.add(m); r.IntN(2) == 0 || len(m.Body) == 0 {
				recent.add(m)
			} else { // what is made of it is as empty as its text is long
				recent.put(line{m.Seq, m.Channel, 0, string(m.Body), func(seq uint64, text string) *Message {
					return &Message{Seq: seq, Channel: m.Channel, ID: text}
				}}, nil)
			}
			if r.IntN(20) == 0 {
				compareRecent(t, r, recent, s)
			}
			if r.IntN(1000) == 0 {
				seq += 3
				recent.reset(at(seq))
				s.all, s.floor, s.last = nil, seq, seq
			}
		}
		compareRecent(t, r, recent, s)
	}
}

func compareRecent(t *testing.T, r *rand.Rand, recent *Recent, s *slice) {
	t.Helper()
	if recent.Floor() != s.floor || recent.Last() != at(s.last) {
		t.Fatalf("got floor %d and last %v, want %d and %d", recent.Floor(), recent.Last(), s.floor, s.last)
	}
	names := []string{randomName(r, false)}
	for range r.IntN(3) {
		if name := randomName(r, r.IntN(2) == 0); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	since, upTo, most := uint64(r.IntN(int(s.last)+4)), uint64(r.IntN(int(s.last)+4)), 1+r.IntN(30)
	got, more, ok := recent.Between(at(since), upTo, names, most)
	if ok != (since >= s.floor) {
		t.Fatalf("since %d with floor %d: ok %t", since, s.floor, ok)
	}
	if !ok {
		return
	}
	want := s.between(since, upTo, names)
	looked := 0
	for _, m := range s.all {
		if m.Seq > since && m.Seq <= upTo {
			looked++
		}
	}
	if n := recent.Count(since, upTo); n != looked {
		t.Fatalf("after %d up to %d: %d entries, want %d", since, upTo, n, looked)
	}
	if more != (len(want) > most) {
		t.Fatalf("%d found, at most %d wanted: more %t", len(want), most, more)
	}
	if more {
		want = want[:most]
	}
	if !slices.EqualFunc(got, want, func(a, b *Message) bool {
		return a.Seq == b.Seq && a.Channel == b.Channel && len(a.Body)+len(a.ID) == len(b.Body)
	}) {
		t.Fatalf("%q after %d up to %d, ring of %d: got %s, want %s", names, since, upTo, s.maxMessages, seqs(got),
			seqs(want))
	}
	all := s.between(s.floor, s.last, names)
	newest := recent.Newest(names, most)
	if n := len(s.between(newest, s.last, names)); n != min(most, len(all)) {
		t.Fatalf("after Newest(%d) = %d there are %d of %d messages", most, newest, n, len(all))
	}
}

func seqs(messages []*Message) (out []string) {
	for _, m := range messages {
		out = append(out, fmt.Sprint(m.Seq))
	}
	return out
}

// A ring of one epoch has nothing to say about another.
func TestRecentOfAnotherEpoch(t *testing.T) {
	recent := newRecent(10, 1000)
	recent.reset(at(0))
	recent.add(stored(1, "a"))
	if _, _, ok := recent.Between(proto.Cursor{Epoch: "other", Seq: 1}, 1, []string{"a"}, 10); ok {
		t.Error("served from a ring of another epoch")
	}
}

// One message that is larger than the ring may be is kept alone.
func TestRecentLargerThanItsBound(t *testing.T) {
	recent := newRecent(10, 100)
	recent.reset(at(0))
	recent.add(stored(1, "a"))
	recent.add(&Message{Seq: 2, Channel: "a", Body: make([]byte, 1000)})
	got, _, ok := recent.Between(at(1), 2, []string{"a"}, 10)
	if !ok || len(got) != 1 || got[0].Seq != 2 {
		t.Errorf("got %s, %t; want the large message", seqs(got), ok)
	}
	recent.add(stored(3, "a"))
	if recent.Floor() != 2 {
		t.Errorf("floor: got %d, want 2: the large message makes room first", recent.Floor())
	}
}

// A message is made once for all who ask for it, and what was made counts: where there
// is no room for it it is made again, and nothing goes for it; what is delivered now stays.
func TestRecentMakesOnce(t *testing.T) {
	recent := newRecent(100, 1000)
	recent.reset(at(0))
	made := 0
	add := func(seq uint64, body int) int {
		return recent.put(line{seq, "a", 0, "text of ten", func(seq uint64, _ string) *Message {
			made++
			return &Message{Seq: seq, Channel: "a", Body: make([]byte, body)}
		}}, nil)
	}
	all := func() []*Message {
		got, _, ok := recent.Between(at(recent.Floor()), Now, []string{"a"}, 100)
		if !ok {
			t.Fatal("not served")
		}
		return got
	}
	add(1, 400)
	add(2, 400)
	first := all()
	if second := all(); made != 2 || first[0] != second[0] || first[1] != second[1] {
		t.Errorf("two messages were made %d times", made)
	}
	add(3, 400)
	if got := all(); len(got) != 3 {
		t.Fatalf("got %s", seqs(got))
	}
	if all(); made != 4 || recent.Floor() != 0 {
		t.Errorf("made %d times, want 4: the third time there is no room; floor %d, want 0", made, recent.Floor())
	}
	recent.keep(add(4, 400), &Message{Seq: 4, Channel: "a", Body: make([]byte, 400)}, true)
	if add(5, 0); recent.Floor() != 1 {
		t.Errorf("floor %d, want 1: the oldest makes room for one that was delivered", recent.Floor())
	}
	recent.reset(at(9))
	if got := recent.keep(0, &Message{Seq: 1}, true); got.Seq != 1 || recent.made.Load() != 0 || recent.bytes != 0 {
		t.Errorf("something of before stays in a ring that was emptied: %d and %d bytes", recent.made.Load(),
			recent.bytes)
	}
}

// A channel with more messages than are followed one by one is read page by
// page like any other.
func TestRecentBusyChannel(t *testing.T) {
	const n = 3*walkSteps + 7
	recent := newRecent(n, 1<<30)
	recent.reset(at(0))
	for i := range n {
		recent.add(stored(uint64(2*i+1), "busy"))
		recent.add(stored(uint64(2*i+2), "other"))
	}
	next := uint64(n + 1) // half of the ring is over: it holds the last n of 2n
	for since := recent.Floor(); ; {
		page, more, ok := recent.Between(at(since), 2*n, []string{"busy"}, 256)
		if !ok {
			t.Fatalf("after %d: not served", since)
		}
		for _, m := range page {
			if next += (next + 1) % 2; m.Seq != next {
				t.Fatalf("got %d, want %d", m.Seq, next)
			}
			next, since = next+1, m.Seq
		}
		if !more {
			break
		}
	}
	if next != 2*n {
		t.Errorf("read up to %d, want %d", next, 2*n)
	}
}

// To look for a hundred names in the ring costs little more than to look for
// one: a client pays by the entry, not by the pattern.
func TestSearchForManyNames(t *testing.T) {
	const n = 1 << 15
	recent := newRecent(n, 1<<30)
	recent.reset(at(0))
	for i := range n {
		recent.add(stored(uint64(i+1), fmt.Sprintf("orders.%d.eu", i%500)))
	}
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("w%d.*.eu", i))
	}
	search := func(names []string) time.Duration {
		begin := time.Now()
		if found, more, ok := recent.Between(at(0), n, names, 256); len(found) > 0 || more || !ok {
			t.Fatalf("got %d messages, more %t, %t; want none", len(found), more, ok)
		}
		return time.Since(begin)
	}
	one, all := time.Hour, time.Hour // the fastest: the other times are those of a machine that did something else
	for try := 0; try < 9 || try < 500 && all > 10*one; try++ {
		one, all = min(one, search(names[:1])), min(all, search(names))
	}
	t.Logf("one name %s, a hundred %s", one, all)
	if all > 10*one {
		t.Errorf("a hundred names take %s, one takes %s; want at most ten times that", all, one)
	}
}
