package hub

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Subscribers that come and go while messages pass, each resuming after the
// newest that it has: none missed, none twice.
func TestResumeWhilePublishing(t *testing.T) {
	const messages, subscribers = 20000, 16
	h, stop := start(t, Config{Shards: 3, InboxMessages: 100, RecentMessages: 1 << 15, RecentBytes: 1 << 20}, 0)
	channels := []string{"a.x", "a.y", "b.x", "b.y"}
	followed := [][]string{{"a.*"}, {"*.x"}, {"a.x", "b.y"}, {">", "a.x"}}
	var running sync.WaitGroup
	for i := range subscribers {
		names := followed[i%len(followed)]
		running.Go(func() {
			var got []uint64
			since := uint64(0)
			for since < messages {
				s := &numbers{}
				sub := attach(h, s)
				j := join(sub, since, names...)
				for ; !j.OK; j = join(sub, since, names...) {
					missed, _, ok := h.Recent().Between(at(since), h.Recent().Last().Seq, names, 100)
					if !ok {
						t.Errorf("the ring does not reach back to %d", since)
						return
					}
					for _, m := range missed {
						got = append(got, m.Seq)
						since = m.Seq
					}
				}
				for range i {
					settle(sub)
				}
				gone := make(chan struct{})
				sub.Detach(func() { close(gone) })
				<-gone
				got = append(got, s.seqs...)
				if n := len(got); n > 0 {
					since = max(since, got[n-1])
				}
				if j.Position.Seq == messages {
					break // the last ones may be of other channels
				}
			}
			var want []uint64
			for seq := uint64(1); seq <= messages; seq++ {
				if slices.ContainsFunc(names, func(n string) bool { return matches(n, channels[seq%4]) }) {
					want = append(want, seq)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q: got %d messages, want %d", names, len(got), len(want))
			}
		})
	}
	for seq := uint64(1); seq <= messages; seq++ {
		h.Offer(offered(seq, channels[seq%4]))
	}
	running.Wait()
	stop()
}

// numbers keeps the sequences only.
type numbers struct{ seqs []uint64 }

func (n *numbers) Deliver(b *Batch) {
	for _, m := range b.Messages {
		n.seqs = append(n.seqs, m.Seq)
	}
}
func (*numbers) Gap(_, _ uint64, _ string) {}
func (*numbers) Passed(uint64)             {}
func (*numbers) Reset()                    {}

// A shard that is behind lets Publish wait, and nobody else.
func TestPublishWaitsForASlowShard(t *testing.T) {
	const inbox = 4
	h, stop := start(t, Config{Shards: 2, InboxMessages: inbox, RecentMessages: 100, RecentBytes: 1 << 20}, 0)
	busy := &blocked{entered: make(chan struct{}), leave: make(chan struct{})}
	slow := attach(h, busy)
	other := &sink{}
	quick := attach(h, other)
	join(slow, Now, "a")
	join(quick, Now, "a")
	published := make(chan uint64, 100)
	var publisher sync.WaitGroup
	publisher.Go(func() {
		for seq := uint64(1); seq <= 20; seq++ {
			h.Publish(stored(seq, "a"))
			published <- seq
		}
		close(published)
	})
	<-busy.entered // one message is in the shard's hands
	for deadline := time.Now().Add(time.Minute); h.Recent().Last().Seq < inbox+2; {
		if time.Now().After(deadline) {
			t.Fatalf("Publish stopped at %d", h.Recent().Last().Seq)
		}
		time.Sleep(time.Millisecond)
	}
	// The next one is in the ring, and waits for room in the slow inbox.
	settle(quick)
	if n := len(published); n > 2*inbox+1 {
		t.Errorf("%d messages were taken by a shard that takes %d at a time", n, inbox)
	}
	left := make(chan struct{})
	slow.Unsubscribe([]string{"b"}, func() { close(left) }) // commands find room
	close(busy.leave)
	<-left
	publisher.Wait()
	stop()
	want := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18",
		"19", "20"}
	if !slices.Equal(busy.events, want) || !slices.Equal(other.events, want) {
		t.Errorf("got %q and %q", busy.events, other.events)
	}
}

// blocked holds the shard at its first message.
type blocked struct {
	sink
	once           sync.Once
	entered, leave chan struct{}
}

func (b *blocked) Deliver(batch *Batch) {
	b.once.Do(func() { close(b.entered); <-b.leave })
	b.sink.Deliver(batch)
}

// Large messages are not queued by the shard, which cannot wait for the client.
func TestJoinWithLargeMessages(t *testing.T) {
	h, _ := start(t, Config{Shards: 1, InboxMessages: 10, RecentMessages: 10, RecentBytes: 1 << 20}, 0)
	for seq := uint64(1); seq <= 3; seq++ {
		h.Publish(&Message{Seq: seq, Channel: "a", Body: make([]byte, replayBytes/2)})
	}
	h.Publish(&Message{Seq: 4, Channel: "a", Body: make([]byte, 2*replayBytes)})
	for since, want := range []bool{0: false, 1: false, 2: false, 3: true, 4: true} {
		if got := join(attach(h, &sink{}), uint64(since), "a"); got.OK != want {
			t.Errorf("after %d: got %+v, want %t", since, got, want)
		}
	}
}

// Now is now, however far the ring has moved past a shard that is behind.
func TestJoinNowBehindATinyRing(t *testing.T) {
	h, _ := start(t, Config{Shards: 1, InboxMessages: 100, RecentMessages: 2, RecentBytes: 1 << 20}, 0)
	busy := &blocked{entered: make(chan struct{}), leave: make(chan struct{})}
	join(attach(h, busy), Now, "a")
	late := &sink{}
	sub := attach(h, late)
	h.Publish(stored(1, "a"))
	<-busy.entered
	answer, stale := make(chan Joined, 1), make(chan Joined, 1)
	sub.Join(Now, Now, []string{"a"}, func(j Joined) { answer <- j })
	attach(h, &sink{}).Join(1, 1, []string{"a"}, func(j Joined) { stale <- j })
	for seq := uint64(2); seq <= 10; seq++ {
		h.Publish(stored(seq, "a"))
	}
	close(busy.leave)
	if got, want := <-answer, (Joined{OK: true, Position: at(1)}); got != want {
		t.Errorf("join now: got %+v, want %+v", got, want)
	}
	if got := <-stale; got.OK {
		t.Errorf("join after 1: got %+v, but the ring begins after %d", got, h.Recent().Floor())
	}
	settle(sub)
	if want := []string{"2", "3", "4", "5", "6", "7", "8", "9", "10"}; !slices.Equal(late.events, want) {
		t.Errorf("got %q, want %q", late.events, want)
	}
}

// What was published before the end is delivered and flushed.
func TestRunDeliversBeforeItEnds(t *testing.T) {
	h, stop := start(t, Config{Shards: 2, InboxMessages: 2000, RecentMessages: 10, RecentBytes: 1 << 20}, 0)
	sinks := make([]*sink, 10)
	for i := range sinks {
		sinks[i] = &sink{}
		join(attach(h, sinks[i]), Now, "a")
	}
	for seq := uint64(1); seq <= 1000; seq++ {
		h.Publish(stored(seq, "a"))
	}
	stop()
	for _, s := range sinks {
		if len(s.events) != 1000 {
			t.Errorf("got %d messages, want 1000", len(s.events))
		}
	}
	h.Publish(stored(1001, "a")) // nobody is there, nobody waits
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	h := New(Config{Shards: 1, InboxMessages: 10, RecentMessages: 10, RecentBytes: 1000}, m)
	s := h.shards[0]
	sub := &Subscriber{shard: s, sink: &sink{}}
	s.attach(sub)
	s.join(sub, Now, Now, []string{"a", "a.>", "a"}, func(Joined) {})
	s.admit(stored(1, "a"))
	s.admit(stored(2, "a.b"))
	s.admit(stored(3, "b"))
	s.finish()
	if got := testutil.ToFloat64(m.deliveries); got != 2 {
		t.Errorf("deliveries: got %v, want 2", got)
	}
	if got := testutil.ToFloat64(m.subscriptions); got != 2 {
		t.Errorf("subscriptions: got %v, want 2", got)
	}
	s.detach(sub)
	if got := testutil.ToFloat64(m.subscriptions); got != 0 || len(s.channels) != 0 || s.patterns.size != 0 ||
		len(s.members) != 0 {
		t.Errorf("after the last has left: %v subscriptions, %d channels, %d patterns, %d members", got,
			len(s.channels), s.patterns.size, len(s.members))
	}
}

// Each encoding runs once per message, whoever asks.
func TestEncodedOnce(t *testing.T) {
	runs := 0
	e := NewEncoding(1, func(m *Message) []byte { runs++; return append([]byte("x"), m.Body...) })
	m := stored(7, "a")
	for range 3 {
		if got := string(m.Encoded(e)); got != "x7" {
			t.Errorf("got %q, want x7", got)
		}
	}
	if runs != 1 {
		t.Errorf("encoded %d times", runs)
	}
	defer func() {
		if recover() == nil {
			t.Error("slot 4 was taken")
		}
	}()
	NewEncoding(maxEncodings, nil)
}

// discard is a subscriber that costs nothing.
type discard struct{ n int }

func (d *discard) Deliver(b *Batch)        { d.n += len(b.Messages) }
func (*discard) Gap(_, _ uint64, _ string) {}
func (*discard) Passed(uint64)             {}
func (*discard) Reset()                    {}

// One operation is one message to all subscribers of one channel.
func BenchmarkFanout(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			h, stop := start(b, Config{Shards: 2, InboxMessages: 1 << 14, RecentMessages: 1 << 16,
				RecentBytes: 64 << 20}, 0)
			for range n {
				join(attach(h, &discard{}), Now, "a")
			}
			seq := uint64(0)
			for b.Loop() {
				seq++
				h.Publish(stored(seq, "a"))
			}
			stop()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/delivery")
		})
	}
}

// One operation is one message to the one subscriber of one of many channels.
func BenchmarkLookup(b *testing.B) {
	const channels = 100_000
	h, stop := start(b, Config{Shards: 2, InboxMessages: 1 << 14, RecentMessages: 1 << 16, RecentBytes: 64 << 20}, 0)
	for i := range channels {
		join(attach(h, &discard{}), Now, "user."+strconv.Itoa(i))
	}
	join(attach(h, &discard{}), Now, "user.>")
	messages := make([]*Message, channels)
	for i := range messages {
		messages[i] = stored(0, "user."+strconv.Itoa(i*7919%channels))
	}
	i := 0
	for b.Loop() {
		h.Publish(messages[i%channels])
		i++
	}
	stop()
}

// Messages that are for nobody here are not made and do not fill an inbox; a
// subscription that begins later is past them, or gets them if it asks for them.
func TestUnheardMessages(t *testing.T) {
	h, stop := start(t, Config{Shards: 2, InboxMessages: 100, RecentMessages: 1 << 12, RecentBytes: 1 << 20}, 0)
	late, follower := &sink{}, &sink{}
	join(attach(h, follower), Now, "b")
	sub := attach(h, late)
	for seq := uint64(1); seq <= 10; seq++ {
		h.Offer(offered(seq, "a"))
	}
	if got, want := join(sub, 8, "a"), (Joined{OK: true, Position: at(10)}); got != want {
		t.Errorf("after ten messages: got %+v, want %+v", got, want)
	}
	made := 0
	for seq := uint64(11); seq <= 1000; seq++ {
		l := offered(seq, "c")
		l.Cut = func(uint64, string) *Message { made++; return nil }
		h.Offer(l)
	}
	for i, s := range h.shards {
		s.mu.Lock()
		if len(s.inbox) > 1 {
			t.Errorf("990 messages that nobody follows are %d items in the inbox of shard %d, want one",
				len(s.inbox), i)
		}
		s.mu.Unlock()
	}
	h.Offer(offered(1001, "b"))
	stop()
	if made > 0 {
		t.Errorf("%d messages were made that nobody follows", made)
	}
	if want := []string{"9", "10"}; !slices.Equal(late.events, want) {
		t.Errorf("who came late got %q, want %q", late.events, want)
	}
	if want := []string{"1001"}; !slices.Equal(follower.events, want) {
		t.Errorf("who follows another channel got %q, want %q", follower.events, want)
	}
}
