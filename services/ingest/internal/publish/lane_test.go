package publish

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publication is one to be sent.
func publication(data, key string) *proto.Publication {
	return &proto.Publication{Event: "message", Data: []byte(data), ID: key}
}

// send sends a message of shop without waiting.
func (p *Publisher) send(channel, data, key string) *Delivery {
	return p.Send(&Origin{Sender: "shop", Source: "192.0.2.1"}, publication(data, key), channel, Whole)
}

// settleAll waits for all, and returns their ids.
func settleAll(t testing.TB, p *Publisher, all []*Delivery) (ids []string) {
	t.Helper()
	for i, d := range all {
		res, err := p.Settle(t.Context(), d)
		if err != nil || res.Status != proto.StatusStored {
			t.Fatalf("message %d: got %+v, %v", i, res, err)
		}
		ids = append(ids, res.ID)
	}
	return ids
}

// behindWire is a Publisher whose acknowledgements can be lost.
func behindWire(t *testing.T, server *natstest.Server) (*Publisher, *natstest.Wire) {
	t.Helper()
	wire := natstest.NewWire(t, server)
	nc, err := natsx.Connect(natsx.Config{URL: wire.URL, Name: "test"}, natstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return runningOver(t, nc, Config{}), wire
}

// streamState is the stream's.
func streamState(t testing.TB, nc *nats.Conn) jetstream.StreamState {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State
}

// What is sent before somebody waits leaves together, in packs within their
// bounds; a message that is larger than packs are is alone.
func TestPacks(t *testing.T) {
	server := natstest.Start(t)
	p, nc := running(t, server)
	var all []*Delivery
	for i := range 3000 {
		all = append(all, p.send("a", fmt.Sprint(i), ""))
	}
	for range 10 {
		all = append(all, p.send("b", `"`+strings.Repeat("x", 60_000)+`"`, ""))
	}
	all = append(all, p.send("c", `"`+strings.Repeat("x", proto.MaxPackBytes)+`"`, ""), p.send("a", "3000", ""))
	ids := settleAll(t, p, all)
	stored := storedMessages(t, nc, p.Epoch())
	var got, sizes []string
	count := map[uint64]int{}
	for _, m := range stored {
		got = append(got, m.id)
		count[m.pack]++
	}
	for pack := uint64(1); count[pack] > 0; pack++ {
		sizes = append(sizes, fmt.Sprint(count[pack]))
	}
	if !slices.Equal(got, ids) {
		t.Errorf("the stream has %d ids, want the %d that were given out, in order", len(got), len(ids))
	}
	// One or two may have left alone, when what was before them had just landed.
	if len(sizes) > 12 || !slices.Contains(sizes, fmt.Sprint(proto.MaxPackMessages)) {
		t.Errorf("packs of %s messages", strings.Join(sizes, " "))
	}
	for pack := range streamState(t, nc).Msgs {
		if body := packBody(t, nc, pack+1); len(body) > proto.MaxPackBytes && count[pack+1] > 1 {
			t.Errorf("pack %d has %d bytes", pack+1, len(body))
		}
	}
}

// packBody reads a pack.
func packBody(t testing.TB, nc *nats.Conn, seq uint64) []byte {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.GetMsg(t.Context(), seq)
	if err != nil {
		t.Fatal(err)
	}
	return raw.Data
}

// A message that comes alone does not wait for others.
func TestAloneLeavesAtOnce(t *testing.T) {
	p, nc := running(t, natstest.Start(t))
	for i := range 5 {
		settleAll(t, p, []*Delivery{p.send("a", fmt.Sprint(i), "")})
	}
	if n := streamState(t, nc).Msgs; n != 5 {
		t.Errorf("got %d packs, want 5", n)
	}
}

// A pack that is stored and whose acknowledgement is lost is sent again, and
// stored once.
func TestPackWhoseAcknowledgementIsLost(t *testing.T) {
	server := natstest.Start(t)
	p, wire := behindWire(t, server)
	other := server.Connect()
	wire.Deaf.Store(true)
	all := []*Delivery{p.send("a", "1", ""), p.send("b", "2", ""), p.send("a", "3", "")}
	p.lane.dispatch()
	natstest.Eventually(t, 30*time.Second, "stored, and the acknowledgement lost",
		func() bool { return streamState(t, other).Msgs == 1 && wire.LostAcks.Load() > 0 })
	later := p.send("a", "4", "") // does not overtake
	wire.Deaf.Store(false)
	wire.Cut()
	ids := settleAll(t, p, append(all, later))
	stored := storedMessages(t, other, p.Epoch())
	if len(stored) != 4 || stored[3].id != ids[3] || stored[0].id != ids[0] || stored[0].pack != stored[2].pack {
		t.Errorf("got %+v, want a pack of three, then one", stored)
	}
}

// An acknowledgement that is lost while the connection stays is missed after a
// while.
func TestSilence(t *testing.T) {
	server := natstest.Start(t)
	p, wire := behindWire(t, server)
	wire.Deaf.Store(true)
	all := []*Delivery{p.send("a", "1", "k")}
	p.lane.dispatch()
	other := server.Connect()
	natstest.Eventually(t, 30*time.Second, "stored, and the acknowledgement lost",
		func() bool { return streamState(t, other).Msgs == 1 && wire.LostAcks.Load() > 0 })
	wire.Deaf.Store(false)
	if res, err := p.Settle(t.Context(), all[0]); err != nil || res.Status != proto.StatusDuplicate {
		t.Errorf("got %+v, %v, want a duplicate of its own first attempt", res, err)
	}
}

// 64 publishers, with and without idempotency keys, in any mixture: what each
// sent to a channel stands there in that order.
func TestOrderOfManyPublishers(t *testing.T) {
	p, nc := running(t, natstest.Start(t))
	const publishers, each = 64, 120
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() {
			var all []*Delivery
			for n := range each {
				key := ""
				if (i+n*n)%3 == 0 {
					key = fmt.Sprintf("%d.%d", i, n)
				}
				all = append(all, p.send(fmt.Sprintf("c.%d", i%40), fmt.Sprintf("[%d,%d]", i, n), key))
				if n%(1+i%7) == 0 {
					settleAll(t, p, all)
					all = nil
				}
			}
			settleAll(t, p, all)
		})
	}
	wg.Wait()
	stored := storedMessages(t, nc, p.Epoch())
	next := map[int]int{}
	for _, m := range stored {
		var publisher, n int
		if _, err := fmt.Sscanf(m.data, "[%d,%d]", &publisher, &n); err != nil {
			t.Fatal(err)
		}
		if n != next[publisher] {
			t.Fatalf("publisher %d: message %d comes when %d should", publisher, n, next[publisher])
		}
		next[publisher]++
	}
	if len(stored) != publishers*each {
		t.Errorf("got %d messages, want %d", len(stored), publishers*each)
	}
	t.Logf("%d messages in %d packs", len(stored), streamState(t, nc).Msgs)
}

// What could not be sent before patience was over is told as not stored, and
// is not stored later either.
func TestGivenUp(t *testing.T) {
	server := natstest.Start(t)
	nc := server.Connect()
	p := runningOver(t, nc, Config{Patience: 200 * time.Millisecond})
	server.Stop()
	natstest.Eventually(t, 30*time.Second, "disconnected", func() bool { return !nc.IsConnected() })
	for _, d := range []*Delivery{p.send("a", "1", ""), p.send("a", "2", "k"), p.send("b", "3", "")} {
		res, err := p.Settle(t.Context(), d)
		var problem *proto.Problem
		if !errors.As(err, &problem) || problem.Detail != "NATS is not connected" || res.Status != proto.StatusFailed {
			t.Errorf("got %+v, %v", res, err)
		}
	}
	server.Restart()
	var d *Delivery
	natstest.Eventually(t, 30*time.Second, "stored again", func() bool {
		d = p.send("a", "4", "again") // stored once, though a busy machine may answer after patience is over
		_, err := p.Settle(t.Context(), d)
		return err == nil
	})
	if stored := storedMessages(t, nc, p.Epoch()); len(stored) != 1 || stored[0].data != "4" {
		t.Errorf("got %+v, want the last message alone", stored)
	}
}

// Ephemeral messages share packs too, which say nothing of their publishers.
func TestEphemeralPacks(t *testing.T) {
	p, nc := running(t, natstest.Start(t))
	live, err := nc.SubscribeSync(proto.SubjectLive + ">")
	if err != nil {
		t.Fatal(err)
	}
	var all []*Delivery
	for i := range 5 {
		all = append(all, p.Send(&Origin{Sender: "shop", Source: "192.0.2.1"}, &proto.Publication{Event: "message",
			Data: fmt.Append(nil, i), Ephemeral: true}, "a", Whole))
	}
	for _, d := range all {
		if res, err := p.Settle(t.Context(), d); err != nil || res.Status != proto.StatusSent || res.ID != "" {
			t.Errorf("got %+v, %v", res, err)
		}
	}
	msg, err := live.NextMsg(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	pack, err := natsx.OpenPack(msg)
	n := 0
	for pack.Next() {
		if n++; len(pack.Source()) != 0 || pack.Accepted() == 0 {
			t.Errorf("got source %q, accepted %d", pack.Source(), pack.Accepted())
		}
	}
	if err != nil || n != 5 || pack.Seq != 0 || streamState(t, nc).Msgs != 0 {
		t.Errorf("got %d messages of sequence %d, %v; want 5, not stored", n, pack.Seq, err)
	}
}

// Who waits when the Publisher is closed is told so; afterwards nothing is
// taken in.
func TestClose(t *testing.T) {
	server := natstest.Start(t)
	p, wire := behindWire(t, server)
	wire.Deaf.Store(true)
	under := []*Delivery{p.send("a", "1", ""), p.send("b", "2", "k")}
	p.lane.dispatch()
	under = append(under, p.send("a", "3", ""))
	p.Close()
	for i, d := range append(under, p.send("a", "4", ""), p.send("a", "5", "k")) {
		if res, err := p.Settle(t.Context(), d); err == nil {
			t.Errorf("message %d: got %+v", i, res)
		}
	}
	if n := p.lane.pending(); n != 0 {
		t.Errorf("%d messages are still pending", n)
	}
}
