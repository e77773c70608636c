package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// tiny makes a gateway that has next to nothing in memory.
func tiny(c *Config) { c.RecentMessages = 1 }

// resumed checks the welcome of a client that came back.
func (c *client) resumed(ok bool, id string) {
	c.t.Helper()
	if w := c.want(proto.FrameWelcome); w.Resumed != ok || w.ID != id {
		c.t.Fatalf("got %s, want resumed %t from %s", w.raw, ok, id)
	}
}

// gap checks a gap frame.
func (c *client) gap(reason, since, id, channel string) {
	c.t.Helper()
	f := c.want(proto.FrameGap)
	want := fmt.Sprintf(`{"type":"gap","reason":%q,"since":%q,"id":%q}`, reason, since, id)
	if channel != "" {
		want = want[:len(want)-1] + fmt.Sprintf(`,"channel":%q}`, channel)
	}
	if f.raw != want {
		c.t.Fatalf("got %s, want %s", f.raw, want)
	}
}

func (b *broker) idsOf(seqs ...uint64) (ids []string) {
	for _, seq := range seqs {
		ids = append(ids, b.id(seq))
	}
	return ids
}

// upTo are the ids from the first to the last sequence, in steps.
func (b *broker) upTo(first, last, step uint64) (ids []string) {
	for seq := first; seq <= last; seq += step {
		ids = append(ids, b.id(seq))
	}
	return ids
}

// Everything after the id comes first, then what is live: from memory or from
// the stream, for one channel, several, and patterns, many and few.
func TestResume(t *testing.T) {
	b := newBroker(t)
	last := b.publishMany(1500, "a.x", "a.y", "b", "c") // a.x is 1, 5, 9…; c is 4, 8, …
	gates := map[string]*gate{"stream": b.gateway(tiny), "another gateway": b.gateway()}
	for _, g := range gates {
		g.reached(last)
	}
	last = b.publishMany(1500, "a.x", "a.y", "b", "c")
	gates["memory"] = gates["another gateway"] // which saw the second half
	for _, c := range []struct {
		name, query string
		since       uint64
		want        []string
	}{
		{"nothing missed", "channel=c", last, nil},
		{"one message", "channel=c", last - 1, b.idsOf(last)},
		{"one channel", "channel=c", 2000, b.upTo(2004, last, 4)},
		{"one of many messages", "channel=%3E", 1600, b.upTo(1601, last, 1)},
		{"two channels", channels("a.x", "b"), 2990, b.idsOf(2991, 2993, 2995, 2997, 2999)},
		{"a pattern", "channel=a.*", 2992, b.idsOf(2993, 2994, 2997, 2998)},
		{"overlapping names", channels("a.x", "a.*", "a.>", "c"), 2992, b.idsOf(2993, 2994, 2996, 2997, 2998, 3000)},
		{"a channel without messages", "channel=d", 1600, nil},
		{"none yet", "channel=", 1600, nil},
	} {
		for name, g := range gates {
			t.Run(c.name+" from "+name, func(t *testing.T) {
				g.reached(last)
				cl := g.dial(c.query + "&since=" + b.id(c.since))
				cl.t = t
				cl.resumed(true, b.id(c.since))
				cl.ids(c.want...)
				cl.send(`{"type":"subscribe","channel":"end.%d"}`, last)
				cl.want(proto.FrameSubscribed) // nothing was behind
			})
		}
	}
	// From before what the second gateway has in memory.
	cl := gates["another gateway"].dial("channel=c&since=" + b.id(0))
	cl.resumed(true, b.id(0))
	cl.ids(b.upTo(4, last, 4)...)
	for name, result := range map[string]string{"stream": "stream", "memory": "memory"} {
		if n := testutil.ToFloat64(gates[name].m.resumes.WithLabelValues(result)); n == 0 {
			t.Errorf("nobody was resumed from %s by the gateway for it", result)
		}
	}
}

func TestResumeWords(t *testing.T) {
	b := newBroker(t)
	b.publishMany(20, "a.x", "a.y")
	b.purge(4)
	for name, g := range map[string]*gate{"full": b.gateway(), "tiny": b.gateway(tiny)} {
		t.Run(name, func(t *testing.T) {
			all := g.dial(channels("a.*") + "&since=all")
			all.resumed(true, b.place(4))
			all.ids(b.upTo(5, 20, 1)...)
			last := g.dial(channels("a.*", "a.x", "b") + "&since=last")
			last.resumed(true, b.place(20))
			last.ids(b.id(19), b.id(20))
			none := g.dial(channels("a.*"))
			none.resumed(false, b.place(20))
			for _, c := range []*client{all, last, none} {
				c.send(`{"type":"subscribe","channel":"b"}`)
				c.want(proto.FrameSubscribed)
			}
		})
	}
}

// On an empty stream there is nothing to miss.
func TestResumeOnAnEmptyStream(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	var clients []*client
	for _, since := range []string{"all", "last", b.place(0)} {
		c := g.dial("since=" + since)
		c.resumed(true, b.place(0))
		clients = append(clients, c)
	}
	seq := b.publish("broadcast", "1")
	for _, c := range clients {
		c.ids(b.id(seq))
	}
}

// Where completeness cannot be promised, the client is told.
func TestResumeWithAGap(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(tiny)
	b.publishMany(20, "broadcast")
	b.purge(10)
	g.reached(20)
	t.Run("expired", func(t *testing.T) {
		c := g.dial("since=" + b.id(5))
		c.resumed(false, b.place(10))
		c.gap("expired", b.id(5), b.place(10), "")
		c.ids(b.upTo(11, 20, 1)...)
	})
	t.Run("just not expired", func(t *testing.T) {
		c := g.dial("since=" + b.place(10))
		c.resumed(true, b.place(10))
		c.ids(b.upTo(11, 20, 1)...)
	})
	t.Run("another epoch", func(t *testing.T) {
		c := g.dial("since=mib3k2x9-12")
		c.resumed(false, b.place(20))
		c.gap("epoch", "mib3k2x9-12", b.place(20), "")
	})
	t.Run("an id that was never given out", func(t *testing.T) {
		c := g.dial("since=" + b.id(1000))
		c.resumed(false, b.place(20))
		c.gap("epoch", b.id(1000), b.place(20), "")
	})
	t.Run("late, expired", func(t *testing.T) {
		c, _ := g.connect("channel=")
		c.send(`{"type":"subscribe","channel":"broadcast","since":%q}`, b.id(5))
		c.gap("expired", b.id(5), b.place(10), "broadcast")
		c.ids(b.upTo(11, 20, 1)...)
		if f := c.want(proto.FrameSubscribed); f.Resumed || f.ID != b.place(20) {
			t.Errorf("got %s", f.raw)
		}
	})
}

// An id that this gateway has not seen yet, from one that is ahead, is
// believed once the stream has it.
func TestResumeFromAGatewayThatIsAhead(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	g.reached(b.publishMany(3, "broadcast"))
	hold := &held{entered: make(chan struct{}), leave: make(chan struct{})}
	for range shards() { // each shard waits at the next message, and so in the end does the feed
		sub := new(hub.Subscriber)
		g.hub.Attach(sub, hold)
		joined := make(chan struct{})
		sub.Join(hub.Now, hub.Now, []string{"broadcast"}, func(hub.Joined) { close(joined) })
		<-joined
	}
	b.publishMany(3, "broadcast")
	<-hold.entered
	c := g.dial("since=" + b.id(6))
	close(hold.leave)
	c.resumed(true, b.id(6))
	c.ids(b.id(b.publish("broadcast", "7")))
}

// held keeps its shard until it is let go.
type held struct {
	nobody
	entered, leave chan struct{}
}

func (h *held) Deliver(*hub.Batch) {
	select {
	case h.entered <- struct{}{}:
	case <-h.leave:
	}
	<-h.leave
}

// Who missed more than one resume is sent gets the oldest, is told what is
// left out, and gets the newest.
func TestResumeOverTheLimit(t *testing.T) {
	const total, limit = 3000, 500
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.ReplayMessages, c.RecentMessages = limit, 1000 })
	g.reached(b.publishMany(total, "broadcast"))
	c := g.dial("since=" + b.id(0))
	c.resumed(true, b.id(0))
	c.ids(b.upTo(1, limit, 1)...)
	c.gap("limit", b.id(limit), b.id(total-limit), "")
	c.ids(b.upTo(total-limit+1, total, 1)...)
	c.ids(b.id(b.publish("broadcast", `"live"`)))

	late, _ := g.connect("channel=")
	late.send(`{"type":"subscribe","channel":"broadcast","since":"all"}`)
	late.ids(b.upTo(1, limit, 1)...)
	late.gap("limit", b.id(limit), b.id(total+1-limit), "broadcast")
	late.ids(b.upTo(total+2-limit, total+1, 1)...)
	if f := late.want(proto.FrameSubscribed); f.Resumed {
		t.Errorf("got %s", f.raw)
	}
}

// Exactly as many as the limit are no reason for a gap.
func TestResumeAtTheLimit(t *testing.T) {
	b := newBroker(t)
	for _, recent := range []int{1000, 1} {
		g := b.gateway(func(c *Config) { c.ReplayMessages, c.RecentMessages = 400, recent })
		last := b.publishMany(400, "broadcast")
		g.reached(last)
		c := g.dial("since=" + b.id(last-400))
		c.resumed(true, b.id(last-400))
		c.ids(b.upTo(last-399, last, 1)...)
		c.ids(b.id(b.publish("broadcast", `"live"`)))
	}
}

// The bytes of one resume are bounded too.
func TestResumeOverTheLimitOfBytes(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.ReplayBytes, c.ReplayMessages = 100_000, 10 })
	for range 40 {
		b.publish("broadcast", `"`+string(make20k())+`"`)
	}
	g.reached(40)
	c := g.dial("since=" + b.id(0))
	c.resumed(true, b.id(0))
	c.ids(b.upTo(1, 5, 1)...)
	c.gap("limit", b.id(5), b.id(30), "")
	c.ids(b.upTo(31, 35, 1)...) // and so on, as long as it stays behind
}

func make20k() []byte {
	b := make([]byte, 20000)
	for i := range b {
		b[i] = 'x'
	}
	return b
}

// A subscription that comes later may resume as well; what another one of the
// connection brought does not come again.
func TestLateSubscribe(t *testing.T) {
	b := newBroker(t)
	for name, g := range map[string]*gate{"memory": b.gateway(), "stream": b.gateway(tiny)} {
		t.Run(name, func(t *testing.T) {
			first := b.publishMany(10, "a.x", "a.y", "b.x")
			g.reached(first)
			c, _ := g.connect(channels("a.*"))
			last := b.publishMany(9, "a.x", "a.y", "b.x")
			base := last - 8
			c.ids(b.idsOf(base, base+1, base+3, base+4, base+6, base+7)...)

			c.send(`{"type":"subscribe","channel":"*.x","since":%q}`, b.id(first-4))
			// Before the connection: all of *.x; since then only what a.* did not bring.
			c.ids(b.idsOf(first-3, first-1, first, base+2, base+5, base+8)...)
			if f := c.want(proto.FrameSubscribed); !f.Resumed || f.ID != b.place(last) {
				t.Errorf("got %s", f.raw)
			}
			end := b.publishMany(3, "a.x", "a.y", "b.x")
			c.ids(b.upTo(end-2, end, 1)...)

			// The history of what is followed already.
			c.send(`{"type":"subscribe","channel":"a.*","since":%q}`, b.id(first-4))
			c.ids(b.id(first - 2))
			if f := c.want(proto.FrameSubscribed); !f.Resumed {
				t.Errorf("got %s", f.raw)
			}
			c.send(`{"type":"subscribe","channel":"a.y","since":"last"}`)
			if f := c.want(proto.FrameSubscribed); !f.Resumed || f.ID != b.place(end) {
				t.Errorf("got %s", f.raw)
			}
			c.send(`{"type":"subscribe","channel":"b.x","since":"last"}`)
			c.want(proto.FrameSubscribed)
			c.send(`{"type":"subscribe","channel":%q,"since":"all"}`, "c."+name)
			c.want(proto.FrameSubscribed)
			c.ids(b.idsOf(b.publish("c."+name, "1"), b.publish("b.x", "2"))...)
		})
	}
}

// since=last of a pattern that takes in too many channels is answered for those
// used most recently.
func TestLastOfManyChannels(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	names := make([]string, natsx.MaxNewest+76)
	for i := range names {
		names[i] = fmt.Sprintf("many.c%d", i)
	}
	last := b.publishMany(len(names), names...)
	g.reached(last)
	c := g.dial(channels("many.*") + "&since=last")
	c.resumed(true, b.place(last))
	c.ids(b.upTo(77, last, 1)...)
	c, _ = g.connect("")
	c.send(`{"type":"subscribe","channel":"many.*","since":"last"}`)
	c.ids(b.upTo(77, last, 1)...)
	if f := c.want(proto.FrameSubscribed); !f.Resumed {
		t.Errorf("got %s", f.raw)
	}
	c.ids(b.id(b.publish("broadcast", "1")))
}

// Who was sent a whole pack, and comes back when it has expired and nothing behind it has: with the place behind the
// pack nothing is missing. Nobody can tell the id of its last message from one that others of the pack come
// after, so that is told as a gap; while the pack is kept, neither is.
func TestResumeBehindAnExpiredPack(t *testing.T) {
	b := newBroker(t)
	var p proto.Pack
	for range 3 {
		p.Add(&proto.Message{Channel: "broadcast", Event: "e", Data: []byte("1"), Sender: "s",
			Time: "2026-11-22T16:58:36.123Z"}, proto.Private{Accepted: time.Now()})
	}
	if _, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: proto.SubjectPacks, Data: p.Body(),
		Header: nats.Header{proto.HeaderChannels: {string(p.AppendChannels(nil))}}}); err != nil {
		t.Fatal(err)
	}
	b.publish("broadcast", "2")
	last := proto.Cursor{Epoch: b.epochs.At(1), Seq: proto.Number(1, 2)}.String()
	kept := b.gateway(tiny)
	for since, behind := range map[string]bool{last: true, b.place(1): true} {
		c := kept.dial("since=" + since)
		if w := c.want(proto.FrameWelcome); w.Resumed != behind {
			t.Errorf("since=%s of a pack that is kept: %s", since, w.raw)
		}
		c.ids(b.id(2))
	}
	b.purge(1)
	g := b.gateway(tiny)
	place := g.dial("since=" + b.place(1))
	place.resumed(true, b.place(1))
	place.ids(b.id(2))
	message := g.dial("since=" + last)
	message.resumed(false, b.place(1))
	message.gap("expired", last, b.place(1), "")
	message.ids(b.id(2))
}
