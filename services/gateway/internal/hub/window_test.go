package hub

import (
	"fmt"
	"slices"
	"testing"
)

// hand is a shard without a goroutine: the test plays its part, step by step.
func hand(quantum int) *shard {
	s := newShard(newRecent(1<<16, 1<<20), 1, NewMetrics(nil).of())
	s.quantum = quantum
	return s
}

func (s *shard) follower(sink Sink, names ...string) *Subscriber {
	sub := &Subscriber{shard: s, sink: sink}
	sub.held = sub.first[:0]
	s.attach(sub)
	s.join(sub, Now, Now, names, func(Joined) {})
	return sub
}

// calls counts how often it is delivered to, too.
type calls struct {
	sink
	n int
}

func (c *calls) Deliver(b *Batch) { c.n++; c.sink.Deliver(b) }

// A large fan-out does not keep a small one waiting; and who follows both gets
// both in order, at once, although the large walk has not come to it.
func TestSmallChannelsDoNotWait(t *testing.T) {
	s := hand(10)
	crowd := make([]calls, 100)
	both := &calls{}
	s.follower(both, "big", "small") // the walk ends with it
	for i := range crowd {
		s.follower(&crowd[i], "big")
	}
	small := &calls{}
	s.follower(small, "small")
	s.admit(stored(1, "big"))
	s.slice()
	s.admit(stored(2, "small"))
	s.slice()
	got := 0
	for i := range crowd {
		got += crowd[i].n
	}
	if got != 20 {
		t.Errorf("two slices of ten brought the large channel to %d", got)
	}
	if want := []string{"2"}; !slices.Equal(small.events, want) {
		t.Errorf("the small channel's follower got %q, want %q", small.events, want)
	}
	if want := []string{"1", "2"}; !slices.Equal(both.events, want) || both.n != 1 {
		t.Errorf("the follower of both got %q in %d writes, want %q in one", both.events, both.n, want)
	}
	s.finish()
	for i := range crowd {
		if want := []string{"1"}; !slices.Equal(crowd[i].events, want) {
			t.Errorf("follower %d of the large channel got %q, want %q", i, crowd[i].events, want)
		}
	}
	if want := []string{"1", "2"}; !slices.Equal(both.events, want) {
		t.Errorf("afterwards the follower of both got %q, want %q", both.events, want)
	}
}

// Messages that wait together leave in one write, whatever their channels; and
// all who get the same ones share the same bytes.
func TestOneWriteForABurst(t *testing.T) {
	s := hand(quantum)
	joins := 0
	e := NewEncoding(0, func(m *Message) []byte { joins++; return m.Body })
	sinks := []*encoder{{e: e}, {e: e}}
	s.follower(sinks[0], "a", "b")
	s.follower(sinks[1], "a", "b.>", "*")
	for i := range 5 {
		s.admit(stored(uint64(i+1), []string{"a", "b"}[i%2]))
	}
	s.finish()
	for i, k := range sinks {
		if len(k.got) != 1 || string(k.got[0]) != "12345" {
			t.Errorf("follower %d got %q, want 12345 at once", i, k.got)
		}
	}
	if &sinks[0].got[0][0] != &sinks[1].got[0][0] {
		t.Error("the same five messages were merged twice")
	}
	if joins != 5 {
		t.Errorf("five messages were encoded %d times", joins)
	}
}

type encoder struct {
	sink
	e   *Encoding
	got [][]byte
}

func (k *encoder) Deliver(b *Batch) { k.got = append(k.got, b.Encoded(k.e)) }

// What is merged has a bound; a longer message goes alone.
func TestBatchesAreBounded(t *testing.T) {
	s := hand(quantum)
	c := &calls{}
	s.follower(c, "a")
	sizes := []int{mergeBytes / 2, mergeBytes / 2, 10, 2 * mergeBytes, 10}
	for i, n := range sizes {
		s.admit(&Message{Seq: uint64(i + 1), Channel: "a", Body: make([]byte, n)})
	}
	s.finish()
	if want := []string{"1", "2", "3", "4", "5"}; !slices.Equal(c.events, want) || c.n != 4 {
		t.Errorf("got %q in %d writes, want %q in 4: 1 and 2, 3, 4, 5", c.events, c.n, want)
	}
}

// More messages than the window holds, while a walk is under way.
func TestFullWindow(t *testing.T) {
	s := hand(1)
	sinks := make([]calls, 3)
	for i := range sinks {
		s.follower(&sinks[i], "a")
	}
	var want []string
	for i := range 3*windowSize + 1 {
		s.admit(stored(uint64(i+1), "a"))
		want = append(want, fmt.Sprint(i+1))
		if i%7 == 0 {
			s.slice()
		}
	}
	s.finish()
	for i := range sinks {
		if !slices.Equal(sinks[i].events, want) {
			t.Errorf("follower %d got %q", i, sinks[i].events)
		}
	}
	if s.window.n != 0 || len(s.window.marked) != 0 || s.channels["a"].pending != 0 {
		t.Errorf("the window keeps %d messages and %d lists", s.window.n, len(s.window.marked))
	}
}

// A delivery costs no memory: what a burst allocates it allocates once, however
// many subscribers there are.
func TestAllocsPerMessage(t *testing.T) {
	for _, c := range []struct {
		name  string
		burst int
		most  float64
	}{
		{"one message", 1, 0},
		{"a burst of five", 5, 6}, // the batch, its list, which grows to five in four steps, and the merged bytes
	} {
		t.Run(c.name, func(t *testing.T) {
			s := hand(quantum)
			e := NewEncoding(0, func(m *Message) []byte { return m.Body })
			for range 1000 {
				s.follower(&quiet{e: e}, "a")
			}
			s.follower(&quiet{e: e}, "*")
			messages := make([]*Message, c.burst)
			for i := range messages {
				messages[i] = &Message{Channel: "a", Body: []byte("x")}
				messages[i].Encoded(e)
			}
			got := testing.AllocsPerRun(100, func() {
				for _, m := range messages {
					s.admit(m)
				}
				s.finish()
			})
			if got > c.most {
				t.Errorf("got %v allocations for 1001 deliveries, want at most %v", got, c.most)
			}
		})
	}
}

type quiet struct {
	sink
	e *Encoding
	n int
}

func (q *quiet) Deliver(b *Batch) { q.n += len(b.Encoded(q.e)) }
