package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// unsubscribeLive ends the live subscription of the feed, and subscribeLive makes another:
// what is published between is missed, as in an overflow or a lost connection.
func (g *gate) unsubscribeLive() {
	g.t.Helper()
	if g.heard == nil {
		g.heard = g.feed.subs[0]
	}
	if err := g.heard.Unsubscribe(); err != nil {
		g.t.Fatal(err)
	}
	g.flush()
}

func (g *gate) subscribeLive() {
	g.t.Helper()
	sub, err := g.nc.ChanSubscribe(proto.SubjectLive+">", g.feed.live)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = sub.Unsubscribe() })
	g.heard = sub
	g.flush()
}

// flush waits until NATS knows of the subscriptions.
func (g *gate) flush() {
	g.t.Helper()
	if err := g.nc.Flush(); err != nil {
		g.t.Fatal(err)
	}
}

// received is how many messages came in this way.
func (g *gate) received(from string) int {
	return int(testutil.ToFloat64(g.m.received.WithLabelValues(from)))
}

// What did not come live is fetched before what comes next.
func TestMissedMessagesAreRepaired(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect("")
	c.ids(b.id(b.publish("broadcast", "1")))
	missed, last := 0, uint64(1)
	for begin := time.Now(); testutil.ToFloat64(g.m.repaired) == 0; {
		if time.Since(begin) > patience {
			t.Fatal("it never sees that something is missing before what comes next")
		}
		g.unsubscribeLive()
		first := last + 1
		missed += 1200
		end := b.publishMany(1200, "broadcast", "other") // on a busy machine they may be found at the end of the stream
		g.subscribeLive()
		last = b.publish("broadcast", "2")
		c.ids(append(b.upTo(first, end, 2), b.id(last))...)
	}
	if got := g.received("fetched"); got < missed { // the last one may be among them
		t.Errorf("fetched %d messages, want %d", got, missed)
	}
}

// What is missing at the very end is found although nothing follows it.
func TestSilentTail(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect("")
	g.unsubscribeLive()
	last := b.publishMany(3, "broadcast")
	c.ids(b.upTo(1, last, 1)...)
}

// A restart of NATS loses nothing: not what was there, not what came before
// the gateway was back.
func TestNATSRestarts(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect("")
	c.ids(b.id(b.publish("broadcast", "1")))
	for range 2 {
		before := b.publish("broadcast", "2")
		b.Restart()
		early := b.Connect() // perhaps sooner than the gateway
		b.nc = early
		b.declare()
		last := b.publishMany(20, "broadcast")
		c.ids(b.upTo(before, last, 1)...)
		natstest.Eventually(t, patience, "the gateway is connected", g.nc.IsConnected)
		c.ids(b.id(b.publish("broadcast", "3")))
	}
	if reason := c.ping(); reason != "" {
		t.Errorf("the client's connection: %s", reason)
	}
}

// When the shards are so far behind that NATS messages are dropped, they are
// fetched once there is room.
func TestStalledHub(t *testing.T) {
	b := newBroker(t)
	h := hub.New(hub.Config{Shards: 1, InboxMessages: 5, RecentMessages: 10000, RecentBytes: 1 << 20}, nil)
	nc := b.Connect()
	dropped := make(chan struct{}, 1000)
	nc.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) { dropped <- struct{}{} })
	f := newFeed(nc, natsx.NewReader(nc, nil), h, natstest.Log(t), newMetrics(prometheus.NewRegistry()), nil, "test")
	f.live = make(chan *nats.Msg, 10)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	feeding, stopFeed := context.WithCancel(ctx)
	fed := make(chan error, 1)
	go func() { fed <- f.run(feeding) }() // ends with stopFeed
	natstest.Eventually(t, patience, "the feed runs", f.started.Load)

	stalled := &held{entered: make(chan struct{}), leave: make(chan struct{})}
	seen := &recorder{}
	for _, sink := range []hub.Sink{stalled, seen} {
		joined := make(chan struct{})
		sub := new(hub.Subscriber)
		h.Attach(sub, sink)
		sub.Join(hub.Now, hub.Now, []string{"a"}, func(hub.Joined) { close(joined) })
		<-joined
	}
	last := b.publishMany(1000, "a")
	<-stalled.entered
	select {
	case <-dropped:
	case <-time.After(patience):
		t.Fatal("NATS dropped nothing: the test proves nothing")
	}
	close(stalled.leave)
	natstest.Eventually(t, patience, "all is handed on",
		func() bool { return h.Recent().Last().Seq == proto.EndOf(last) })
	stopFeed()
	if err := <-fed; err != nil {
		t.Errorf("the feed ended with %v", err)
	}
	stop()
	running.Wait()
	for i, seq := range seen.seqs {
		if seq != proto.Number(uint64(i)+1, 0) {
			t.Fatalf("message %d is %d", i+1, seq)
		}
	}
	if len(seen.seqs) != 1000 {
		t.Errorf("got %d messages", len(seen.seqs))
	}
}

// recorder keeps the sequences; read it when the hub has stopped.
type recorder struct {
	nobody
	seqs []uint64
}

func (r *recorder) Deliver(b *hub.Batch) {
	for _, m := range b.Messages {
		r.seqs = append(r.seqs, m.Seq)
	}
}

// What expired before this gateway could fetch it is lost, and everybody is
// told: who is connected, and who comes back with an id from before.
func TestExpiredBeforeItWasFetched(t *testing.T) {
	b := newBroker(t)
	b.wire = natstest.NewWire(t, b.Server)
	g := b.gateway()
	c, _ := g.connect("")
	c.ids(b.id(b.publish("broadcast", "1")))
	b.wire.Closed.Store(true)
	b.wire.Cut()
	natstest.Eventually(t, patience, "the gateway has lost its connection", func() bool { return !g.nc.IsConnected() })
	b.publishMany(10, "broadcast") // 2 to 11
	b.purge(6)
	b.wire.Closed.Store(false)
	last := b.publish("broadcast", "2")
	c.gap("expired", b.place(1), b.place(6), "")
	c.ids(b.upTo(7, last, 1)...)

	back := g.dial("since=" + b.id(3))
	back.resumed(false, b.place(6))
	back.gap("expired", b.id(3), b.place(6), "")
	back.ids(b.upTo(7, last, 1)...)
	near := g.dial("since=" + b.id(8))
	near.resumed(true, b.id(8))
	near.ids(b.upTo(9, last, 1)...)
	if n := testutil.ToFloat64(g.m.lost); n != 1 {
		t.Errorf("lost %v times", n)
	}
}

// Strangers' messages under Herald's subjects, and forged sequences, harm
// nothing: real messages come once, in order, each under its own id.
func TestForeignMessages(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect("channel=%3E")
	forge := func(subject, body, seq string) {
		t.Helper()
		m := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{}}
		if seq != "" {
			m.Header["Nats-Sequence"] = []string{seq}
		}
		if err := b.nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	const good = `{"channel":"a","event":"message","data":"forged","sender":"x","time":"2026-11-22T16:58:36.123Z"}`
	var want []string
	for range 3 {
		seq := b.publish("a", "1")
		want = append(want, b.id(seq))
		next := fmt.Sprint(seq + 1)
		forge("herald.live.msg.a", "junk", "")
		forge("herald.live.msg.a", "{}", next) // the next sequence, so that the real one looks known
		forge("herald.live.msg.a", "junk", next)
		forge("herald.live.msg.a", good, "999999999")
		forge("herald.live.msg.a", good, "18446744073709551615")
		forge("herald.live.msg.a", good, "1")
		forge("herald.live.msg.a", good, "0")
		forge("herald.live.msg.a", good, "-5")
		forge("herald.live.msg.a", good, "x")
		forge("herald.live.msg.a'b", good, "")
		forge("herald.msg.a", "junk", "") // stored, and republished
		forge("herald.msg.a", good, "999999999")
		forge("herald.msg.a'b", good, "")
		forge("herald.msg.a", "", next)
	}
	want = append(want, b.id(b.publish("a", "2")))
	var got []string
	for len(got) == 0 || got[len(got)-1] != want[len(want)-1] {
		f := c.want("")
		if string(f.Data) != `"forged"` { // what was really stored is a message, whoever did it
			got = append(got, f.ID)
		} else if f.ID == "" || f.Channel != "a" {
			t.Errorf("got %s", f.raw)
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
	if reason := c.ping(); reason != "" {
		t.Errorf("the client's connection: %s", reason)
	}
	natstest.Eventually(t, patience, "foreign messages are counted",
		func() bool { return testutil.ToFloat64(g.m.foreign) >= 20 })
}

// A sequence that the stream has not reached, forged or lost with a disk, is
// noticed: clients start over, and are told.
func TestStreamBehind(t *testing.T) {
	t.Parallel() // it waits more than it works
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect("")
	last := b.publish("broadcast", "1")
	c.ids(b.id(last))
	m := message("broadcast", `"never stored"`)
	m.Subject = proto.SubjectLiveStored + "broadcast"
	m.Header["Nats-Sequence"] = []string{fmt.Sprint(last + 1)}
	if err := b.nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	c.ids(b.id(last + 1))
	if code, _ := c.closed(); code != proto.CloseRestart {
		t.Errorf("got %d, want %d", code, proto.CloseRestart)
	}
	c = g.dial("since=" + b.id(last+1))
	c.resumed(false, b.place(last))
	c.gap("epoch", b.id(last+1), b.place(last), "")
	c.ids(b.id(b.publish("broadcast", "2")))
}

// A stream that was deleted and made anew starts again at 1: clients are sent
// away with "come back", and come back to a gap.
func TestStreamMadeAnew(t *testing.T) {
	t.Parallel() // it waits more than it works
	for _, c := range []struct {
		name         string
		first, later int // messages of the old stream, and of the new one before it is noticed
	}{{"quiet", 5, 0}, {"fewer than before", 50, 10}, {"more than before", 5, 50}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBroker(t)
			g := b.gateway()
			old := b.epoch
			cl, _ := g.connect("")
			b.publishMany(c.first, "broadcast")
			cl.ids(b.upTo(1, uint64(c.first), 1)...)
			since := b.id(uint64(c.first))
			if err := b.js.DeleteStream(context.Background(), proto.Stream); err != nil {
				t.Fatal(err)
			}
			b.declare()
			if b.epoch == old {
				t.Fatal("the epoch is the same")
			}
			if c.later > 0 {
				b.publishMany(c.later, "broadcast")
			}
			stop := make(chan struct{})
			var busy sync.WaitGroup
			busy.Go(func() { // it never becomes quiet
				for {
					select {
					case <-stop:
						return
					case <-time.After(tickEvery / 10):
						if c.later > 0 {
							b.publish("other", "1")
						}
					}
				}
			})
			if code, _ := cl.closed(); code != proto.CloseRestart {
				t.Errorf("got %d, want %d", code, proto.CloseRestart)
			}
			close(stop)
			busy.Wait()
			cl = g.dial("since=" + since)
			if w := cl.want(proto.FrameWelcome); w.Resumed || !strings.HasPrefix(w.ID, b.epoch) {
				t.Errorf("got %s", w.raw)
			}
			if f := cl.want(proto.FrameGap); f.Reason != proto.GapEpoch || f.Since != since {
				t.Errorf("got %s", f.raw)
			}
			cl.ids(b.id(b.publish("broadcast", "1")))
		})
	}
}

// Ready means: there is a stream, NATS is there, and the canary came through.
func TestReady(t *testing.T) {
	t.Parallel() // it waits more than it works
	srv := natstest.Start(t)
	b := &broker{Server: srv, t: t}
	b.nc = b.Connect()
	g := b.run(nil)
	ready := func() string {
		w := httptest.NewRecorder()
		r := chi.NewRouter()
		g.ops.MountOps(r)
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String()))
	}
	eventually := func(want string) {
		t.Helper()
		natstest.Eventually(t, patience, "/readyz says "+want, func() bool { return strings.Contains(ready(), want) })
	}
	eventually("stream HERALD is not there yet")
	if _, resp, err := g.try("", nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable ||
		resp.Header.Get("Retry-After") == "" {
		t.Errorf("before there is a stream: got %v, %v; want 503", resp, err)
	}
	b.declare()
	eventually("200")
	natstest.Eventually(t, patience, "/readyz says that the canary is late", func() bool {
		g.feed.canaryAt.Store(monotonic.Now() - int64(canaryLate)) // until the next comes back
		return strings.Contains(ready(), "the canary has not come back for 5s")
	})
	eventually("200") // it sang again
	b.Stop()
	eventually("not connected to NATS")
	b.Restart()
	eventually("200")
	g.connect("") // who does not answer the goodbye, so that the drain takes a while
	done := make(chan error, 1)
	go func() { done <- g.stop() }()
	eventually("draining")
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}
