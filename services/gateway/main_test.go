package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/settings"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if s := os.Getenv(crowdEnv); s != "" {
		crowd(s)
		return
	}
	goleak.VerifyTestMain(m, natstest.Leaks()...)
}

// patience is how long a test waits for what must come: a machine that does much else is many times slower.
const patience = time.Minute

// broker is a NATS server with the stream, and a connection of its own.
type broker struct {
	*natstest.Server
	t  testing.TB
	nc *nats.Conn
	js jetstream.JetStream

	settings *settings.Live // of gateways that start; nil: none change
	wire     *natstest.Wire // between gateways that start and the server; nil: nothing is

	// Of the stream when it was declared last.
	epoch  string
	epochs natsx.Epochs
}

func newBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{Server: natstest.Start(t), t: t}
	b.nc = b.Connect()
	b.declare()
	return b
}

// declare declares the stream, as ingest does.
func (b *broker) declare() {
	b.t.Helper()
	b.js, b.epoch = b.Stream(b.nc)
	s, err := b.js.Stream(context.Background(), proto.Stream)
	if err != nil {
		b.t.Fatal(err)
	}
	b.epochs = natsx.EpochsOf(s.CachedInfo())
}

// id is the id of the message that is alone in its pack.
func (b *broker) id(seq uint64) string {
	return proto.Cursor{Epoch: b.epochs.At(seq), Seq: proto.Number(seq, 0)}.String()
}

// place is the id of the place behind a pack.
func (b *broker) place(seq uint64) string {
	return proto.Cursor{Epoch: b.epochs.At(seq), Seq: proto.EndOf(seq)}.String()
}

func message(channel, data string) *nats.Msg { return natsMessage(channel, data, false) }

func natsMessage(channel, data string, ephemeral bool) *nats.Msg {
	m := proto.Message{Channel: channel, Event: proto.DefaultEvent, Data: json.RawMessage(data), Sender: "test",
		Time: "2026-11-22T16:58:36.123Z"}
	return natstest.NewMsg(&m, natstest.Headers{Accepted: time.Now(), Source: "192.0.2.1"}, ephemeral)
}

// pass hands on an ephemeral message.
func (b *broker) pass(channel, data string) {
	b.t.Helper()
	if err := b.nc.PublishMsg(natsMessage(channel, data, true)); err != nil {
		b.t.Fatalf("pass on to %s: %v", channel, err)
	}
}

// publish stores a message and returns its sequence.
func (b *broker) publish(channel, data string) uint64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ack, err := b.js.PublishMsg(ctx, message(channel, data))
	if err != nil {
		b.t.Fatalf("publish to %s: %v", channel, err)
	}
	return ack.Sequence
}

// publishMany stores n messages, the channels in turn, with their number as
// data, and returns the last sequence.
func (b *broker) publishMany(n int, channels ...string) (last uint64) {
	b.t.Helper()
	last, err := natstest.Publish(b.js.Conn(), func(yield func(*nats.Msg) bool) {
		for i := range n {
			if !yield(message(channels[i%len(channels)], fmt.Sprint(i))) {
				return
			}
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return last
}

// purge removes everything up to seq, as retention does.
func (b *broker) purge(upTo uint64) {
	b.t.Helper()
	s, err := b.js.Stream(context.Background(), proto.Stream)
	if err == nil {
		err = s.Purge(context.Background(), jetstream.WithPurgeSequence(upTo+1))
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// gate is a gateway that runs.
type gate struct {
	*Service
	t    testing.TB
	reg  *prometheus.Registry
	ops  *telemetry.Ops
	nc   *nats.Conn
	log  *logtest.Buffer
	stop func() error // ends it and returns what Run returned

	heard *nats.Subscription // of subscribeLive
}

// gateway starts a gateway on loopback and waits until it follows the stream.
func (b *broker) gateway(change ...func(*Config)) *gate { return b.gatewayWith(nil, change...) }

func (b *broker) gatewayWith(pages fs.FS, change ...func(*Config)) *gate {
	b.t.Helper()
	g := b.run(pages, change...)
	natstest.Eventually(b.t, patience, "the gateway follows the stream", g.feed.started.Load)
	return g
}

// connect dials the server as a gateway does, through the wire if there is one.
func (b *broker) connect() *nats.Conn {
	b.t.Helper()
	if b.wire == nil {
		return b.Connect()
	}
	nc, err := natsx.Connect(natsx.Config{URL: b.wire.URL, Name: "test"}, natstest.Log(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	return nc
}

// run starts a gateway, and does not wait until it follows the stream.
func (b *broker) run(pages fs.FS, change ...func(*Config)) *gate {
	b.t.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.AnonymousChannels, cfg.Drain = "127.0.0.1:0", []string{">"}, 200*time.Millisecond
	cfg.DrainDelay = 0
	for _, c := range change {
		c(&cfg)
	}
	g := &gate{t: b.t, reg: prometheus.NewRegistry(), nc: b.connect(), log: &logtest.Buffer{}}
	g.ops = telemetry.NewOps(g.reg)
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewJSONHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := New(ctx, cfg, Deps{NATS: g.nc, Log: log, Registry: g.reg, Ops: g.ops, Pages: pages, Settings: b.settings})
	if err != nil {
		cancel()
		b.t.Fatalf("new gateway: %v", err)
	}
	g.Service = s
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // ends with stop
	g.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("Run does not return")
		}
	})
	b.t.Cleanup(func() {
		if err := g.stop(); err != nil {
			b.t.Errorf("gateway: %v", err)
		}
		if b.t.Failed() {
			b.t.Logf("the gateway's log:\n%s", g.log)
		}
	})
	return g
}

// becomesReady waits until every route answers: for five seconds where no test has made a bucket of apps (shelf).
func (g *gate) becomesReady() {
	g.t.Helper()
	natstest.Eventually(g.t, patience, "the gateway is ready", func() bool { return g.ready(g.t.Context()) == nil })
}

// nobodyIsCounted waits until every client is counted out: a connection is taken off the set, and told that it is
// closed, before that.
func (g *gate) nobodyIsCounted() {
	g.t.Helper()
	natstest.Eventually(g.t, patience, "every client is counted out", func() bool {
		g.ips.mu.Lock()
		defer g.ips.mu.Unlock()
		return g.ips.online == 0
	})
}

// reached waits until every shard has handed on what is stored up to seq.
func (g *gate) reached(seq uint64) {
	g.t.Helper()
	natstest.Eventually(g.t, patience, "the shards have handed on what is stored", func() bool {
		for range shards() { // one probe a shard
			probe := new(hub.Subscriber)
			g.hub.Attach(probe, nobody{})
			answer := make(chan hub.Joined, 1)
			probe.Join(hub.Now, hub.Now, nil, func(j hub.Joined) { answer <- j })
			probe.Detach(func() {})
			at := (<-answer).Position.Seq
			if at < proto.Number(seq, 0) || max(at, g.hub.Passed().Seq) < proto.EndOf(seq) {
				return false
			}
		}
		return true
	})
}

// nobody is a subscriber that only asks.
type nobody struct{}

func (nobody) Deliver(*hub.Batch)        {}
func (nobody) Gap(_, _ uint64, _ string) {}
func (nobody) Passed(uint64)             {}
func (nobody) Reset()                    {}

// channels is a query that names them.
func channels(names ...string) string { return url.Values{"channel": names}.Encode() }

// random is a source whose seed is printed, so that a failure can be repeated.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
