package hub

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/herald-push/herald/proto"
)

// model is what a hub promises, played by one hand: messages and commands act
// in the order in which they are given.
type model struct {
	t      *testing.T
	r      *rand.Rand
	hub    *Hub
	ring   slice
	seq    uint64 // the newest sequence
	epoch  string
	turns  int // ephemeral messages so far
	people []*person
}

// person is one subscriber beside what it must have been told.
type person struct {
	sub  *Subscriber
	sink *sink
	held map[string]place
	want []string
}

// place is where a subscription begins: live messages after the first, all in
// all what is after the second.
type place struct{ after, had uint64 }

func (p *person) expect(format string, args ...any) {
	p.want = append(p.want, fmt.Sprintf(format, args...))
}

// gets reports whether one of the subscriptions brings this live message.
func (p *person) gets(seq uint64, channel string) bool {
	for name, place := range p.held {
		if matches(name, channel) && (seq == 0 || seq > place.after) {
			return true
		}
	}
	return false
}

// has reports whether one of the subscriptions brings or brought this message.
func (p *person) has(m *Message) bool {
	for name, place := range p.held {
		if matches(name, m.Channel) && m.Seq > place.had {
			return true
		}
	}
	return false
}

func (m *model) attach() {
	p := &person{sink: &sink{}, held: map[string]place{}}
	p.sub = attach(m.hub, p.sink)
	m.people = append(m.people, p)
}

func (m *model) detach() {
	i := m.r.IntN(len(m.people))
	p := m.people[i]
	gone := make(chan struct{})
	p.sub.Detach(func() { close(gone) })
	<-gone
	m.compare(p)
	p.sub.Join(Now, Now, []string{"a"}, func(j Joined) { // too late, and answered all the same
		if j.OK {
			m.t.Error("a detached subscriber joined")
		}
	})
	m.people = slices.Delete(m.people, i, i+1)
}

func (m *model) publish() {
	channel := randomName(m.r, false)
	if m.r.IntN(5) == 0 {
		m.turns++
		msg := &Message{Channel: channel, Body: fmt.Appendf(nil, "e%d", m.turns)}
		if m.r.IntN(2) == 0 {
			m.hub.Publish(msg)
		} else {
			m.hub.Offer(Line{Channel: channel, Text: "x", Cut: func(uint64, string) *Message { return msg }})
		}
		for _, p := range m.people {
			if p.gets(0, channel) {
				p.expect("ephemeral e%d", m.turns)
			}
		}
		return
	}
	m.seq += 1 + uint64(m.r.IntN(2))
	msg := stored(m.seq, channel)
	if m.r.IntN(4) == 0 {
		m.hub.Publish(msg)
	} else {
		m.hub.Offer(offered(m.seq, channel))
	}
	m.ring.add(msg)
	for _, p := range m.people {
		if p.gets(m.seq, channel) {
			p.expect("%d", m.seq)
		}
	}
}

func (m *model) join(p *person) {
	names := make([]string, 1+m.r.IntN(3))
	for i := range names {
		names[i] = randomName(m.r, m.r.IntN(2) == 0)
	}
	since := Now
	if m.r.IntN(3) > 0 {
		since = uint64(m.r.IntN(int(m.seq) + 3)) // sometimes ahead of the hub
	}
	had := since
	if since != Now && m.r.IntN(2) == 0 {
		had = uint64(m.r.IntN(int(since) + 1))
	}
	answer := make(chan Joined, 1)
	p.sub.Join(had, since, names, func(j Joined) { answer <- j })
	got := <-answer
	var fresh []string
	for _, name := range names {
		if held, there := p.held[name]; there {
			p.held[name] = place{held.after, min(held.had, had)}
		} else if !slices.Contains(fresh, name) {
			fresh = append(fresh, name)
		}
	}
	position := m.seq
	if since != Now {
		missed := m.ring.between(since, m.seq, fresh)
		if since < m.ring.floor || len(missed) > replayMax {
			if got.OK {
				m.t.Fatalf("joined %q after %d, but %d are missed and the ring begins after %d", names, since,
					len(missed), m.ring.floor)
			}
			return
		}
		for _, msg := range missed {
			if !p.has(msg) {
				p.expect("%d", msg.Seq)
			}
		}
		position = max(since, position)
	}
	if want := (Joined{OK: true, Position: proto.Cursor{Epoch: m.epoch, Seq: position}}); got != want {
		m.t.Fatalf("join %q after %d: got %+v, want %+v", names, since, got, want)
	}
	for _, name := range fresh {
		p.held[name] = place{position, min(had, position)}
	}
}

func (m *model) disconnect(p *person) {
	name := randomName(m.r, m.r.IntN(2) == 0)
	if held := slices.Collect(maps.Keys(p.held)); len(held) > 0 && m.r.IntN(4) > 0 {
		name = held[m.r.IntN(len(held))]
	}
	delete(p.held, name)
	p.sub.Unsubscribe([]string{name}, func() {})
}

func (m *model) gap() {
	since := m.seq
	m.seq += 1 + uint64(m.r.IntN(20))
	m.hub.Gap(since, m.seq, proto.GapExpired)
	m.ring.all, m.ring.floor, m.ring.last = nil, m.seq, m.seq
	for _, p := range m.people {
		if len(p.held) > 0 {
			p.expect("gap %d %d", since, m.seq)
		}
	}
}

func (m *model) reset() {
	m.epoch += "x"
	m.seq = uint64(m.r.IntN(5))
	m.hub.Start(proto.Cursor{Epoch: m.epoch, Seq: m.seq}, true)
	m.ring.all, m.ring.floor, m.ring.last = nil, m.seq, m.seq
	for len(m.people) > 0 { // the gateway's sinks close at a reset
		m.people[0].expect("reset")
		settle(m.people[0].sub)
		m.compare(m.people[0])
		m.people[0].sub.Detach(func() {})
		m.people = m.people[1:]
	}
}

func (m *model) compare(p *person) {
	m.t.Helper()
	if !slices.Equal(p.sink.events, p.want) {
		m.t.Fatalf("subscriber with %v\n got %q\nwant %q", p.held, p.sink.events, p.want)
	}
}

// Random commands and messages: each subscriber is told exactly what it must
// be, in order, once.
func TestHubLikeTheModel(t *testing.T) {
	r := random(t)
	for range 30 {
		m := &model{t: t, r: r, epoch: epoch, ring: slice{maxMessages: 20 + r.IntN(1000), maxBytes: 1 << 20}}
		m.hub = New(Config{Shards: 1 + r.IntN(4), InboxMessages: 1 + r.IntN(100), RecentMessages: m.ring.maxMessages,
			RecentBytes: m.ring.maxBytes}, nil)
		for _, s := range m.hub.shards {
			s.quantum = 1 + r.IntN(8) // so that walks interleave
		}
		stop := run(t, m.hub, 0)
		for range 2000 {
			switch n := r.IntN(1000); {
			case n < 30 && len(m.people) < 20:
				m.attach()
			case n < 50 && len(m.people) > 0:
				m.detach()
			case n < 52:
				m.gap()
			case n < 53:
				m.reset()
			case n < 200 && len(m.people) > 0:
				m.join(m.people[r.IntN(len(m.people))])
			case n < 280 && len(m.people) > 0:
				m.disconnect(m.people[r.IntN(len(m.people))])
			default:
				m.publish()
			}
		}
		stop()
		for _, p := range m.people {
			m.compare(p)
		}
	}
}
