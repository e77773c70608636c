package chanindex

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

// Whatever packs hold, the index names every one that has a message of what is
// asked for, and few others.
func TestIndexIsNeverShort(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	x := New()
	channel := func() string { return fmt.Sprintf("user.%d.%c", r.IntN(3000), 'a'+r.IntN(3)) }
	const first, packs = 5, 20_000
	held := make([][]string, packs)
	unknown := map[uint64]bool{}
	for i := range held {
		seq := uint64(first + i)
		if r.IntN(2000) == 0 {
			unknown[seq] = true
			x.add(seq, nil, true)
			continue
		}
		var hashes []uint32
		for range 1 + r.IntN(8)*r.IntN(8) {
			c := channel()
			held[i] = append(held[i], c)
			hashes = append(hashes, hashesOf(c)...)
		}
		x.add(seq, hashes, false)
	}
	for range 300 {
		name := channel()
		switch r.IntN(4) {
		case 0:
			name = fmt.Sprintf("user.%d.>", r.IntN(3000))
		case 1:
			name = fmt.Sprintf("user.%d.*", r.IntN(3000))
		}
		from := first + r.Uint64N(packs)
		upTo := from + r.Uint64N(first+packs+3-from)
		got, before := map[uint64]bool{}, uint64(0)
		for _, part := range x.Ranges([]string{name}, from, upTo) {
			if part.From < from || part.Through > upTo || part.From > part.Through || part.From <= before &&
				before > 0 {
				t.Fatalf("%s from %d to %d: got %+v behind %d", name, from, upTo, part, before)
			}
			for seq := part.From; seq <= part.Through; seq++ {
				got[seq] = true
			}
			before = part.Through
		}
		must := 0
		for seq := from; seq <= upTo; seq++ {
			want := seq >= first+packs || unknown[seq]
			if seq < first+packs {
				for _, c := range held[seq-first] {
					want = want || proto.Match(name, c)
				}
			}
			if want {
				must++
				if !got[seq] {
					t.Fatalf("%s from %d to %d: pack %d is not named", name, from, upTo, seq)
				}
			}
		}
		if len(got) > 40*(must+5)+200 {
			t.Errorf("%s from %d to %d: %d packs are named for %d", name, from, upTo, len(got), must)
		}
	}
	if got := x.Ranges([]string{"user.1.a", "*.x"}, 7, 9); len(got) != 1 ||
		got[0] != (natsx.PackRange{From: 7, Through: 9}) {
		t.Errorf("a pattern that begins with a wildcard: got %v, want all", got)
	}
}

// Five million messages on a hundred thousand channels take at most 16 MB.
func TestIndexMemory(t *testing.T) {
	const messages, channels, each = 5_000_000, 100_000, 50
	x := New()
	r := rand.New(rand.NewPCG(1, 2))
	hashes := make([][]uint32, channels)
	for i := range hashes {
		hashes[i] = hashesOf(fmt.Sprintf("user.%d", i))
	}
	pack := make([]uint32, 0, 2*each)
	for seq := uint64(1); seq <= messages/each; seq++ {
		pack = append(pack[:0], hashes[0][0]) // "user."
		for range each {
			pack = append(pack, hashes[r.IntN(channels)][1])
		}
		x.add(seq, pack, false)
	}
	if n := x.Bytes(); n > 16<<20 {
		t.Errorf("%d bytes", n)
	} else {
		t.Logf("%.1f MB in %d segments", float64(n)/1e6, len(x.segments))
	}
	if got := x.Ranges([]string{"user.7"}, 1, messages/each); len(got) == 0 || len(got) > 120 {
		t.Errorf("a channel with %d messages: %d places to look at", messages/channels, len(got))
	}
}

// An index that is built from the stream's headers finds what was stored before
// it began and since, through a restart of NATS and a stream made anew.
func TestIndexFollowsTheStream(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	publish := func(channels ...string) {
		t.Helper()
		var p proto.Pack
		for i, c := range channels {
			p.Add(&proto.Message{Channel: c, Event: "e", Data: fmt.Append(nil, i), Sender: "s",
				Time: "2026-11-22T16:58:36.123Z"}, proto.Private{Accepted: time.Now()})
		}
		m := &nats.Msg{Subject: proto.SubjectPacks, Data: p.Body(),
			Header: nats.Header{proto.HeaderChannels: {string(p.AppendChannels(nil))}}}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	many := make([]string, 60)
	fill := func() {
		t.Helper()
		for i := range 40 {
			for j := range many {
				many[j] = fmt.Sprintf("busy.%d", (i*len(many)+j)%500)
			}
			publish(many...)
		}
	}
	publish("quiet.1", "x")
	fill()
	x := New()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); x.Run(ctx, s.Connect(), natstest.Log(t)) }()
	defer func() { stop(); <-ended }()
	x.Await(t.Context(), 1, 41)
	found := func(what string, name string, n, most int) {
		t.Helper()
		var got []natsx.PackRange
		natstest.Eventually(t, 30*time.Second, what, func() bool {
			state, err := natsx.NewReader(nc, nil).State(t.Context())
			if err != nil || x.last() != state.Last {
				return false
			}
			got = x.Ranges([]string{name}, 1, state.Last)
			return true
		})
		packs := uint64(0)
		for _, part := range got {
			packs += part.Through - part.From + 1
		}
		if len(got) != n || packs > uint64(most) {
			t.Errorf("%s: %s is in %v, want %d places and at most %d packs", what, name, got, n, most)
		}
	}
	found("what was there", "quiet.1", 1, 4)
	found("what was there", "quiet.>", 1, 4)
	found("what was there", "none", 0, 0)
	publish("quiet.1")
	fill()
	found("what came since", "quiet.1", 2, 8)
	s.Restart()
	natstest.Eventually(t, 30*time.Second, "connected again", nc.IsConnected)
	s.Stream(nc)
	publish("late.1")
	fill()
	found("after a restart", "late.1", 1, 4)
}

// Who asks for what was stored a moment ago does not wait until it is fetched anyway.
func TestIndexFetchesWhatIsAskedFor(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	x := New()
	x.every = time.Hour
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); x.Run(ctx, nc, natstest.Log(t)) }()
	defer func() { stop(); <-ended }()
	if !x.Complete(t.Context()) {
		t.Fatal("not complete")
	}
	for last := uint64(0); last < 30; {
		for range 10 {
			last++
			if _, err := js.Publish(t.Context(), proto.SubjectStored+"a", []byte(`{"channel":"a"}`)); err != nil {
				t.Fatal(err)
			}
		}
		natstest.Eventually(t, 30*time.Second, "what was asked for is known", func() bool {
			x.Await(t.Context(), 1, last)
			return x.last()+newPacks >= last
		})
		if got := x.Ranges([]string{"b"}, 1, last); len(got) > 1 || len(got) == 1 && got[0].From+newPacks <= last {
			t.Errorf("%d are stored: %v may hold what none holds", last, got)
		}
	}
}

// What a disk took from the middle of the stream is found and counted, and
// named to readers, who tell of it.
func TestIndexFindsDamage(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	for _, c := range []string{"a", "a", "b", "a"} {
		if _, err := js.Publish(t.Context(), proto.SubjectStored+c, []byte(`{"channel":"`+c+`"}`)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), proto.Stream)
	if err == nil {
		err = stream.DeleteMsg(t.Context(), 3)
	}
	if err != nil {
		t.Fatal(err)
	}
	x := New()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); x.Run(ctx, nc, natstest.Log(t)) }()
	defer func() { stop(); <-ended }()
	if !x.Complete(t.Context()) || x.Damaged() != 1 {
		t.Errorf("%d packs are damaged, want 1", x.Damaged())
	}
	if got := x.Ranges([]string{"quiet"}, 1, 4); len(got) != 1 || got[0].From != 3 {
		t.Errorf("got %v, want the hole, so that it is told", got)
	}
}
