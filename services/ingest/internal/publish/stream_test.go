package publish

import (
	"context"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, natstest.Leaks()...) }

// running is a Publisher that has declared its stream, and its connection. Both
// end with the test.
func running(t testing.TB, server *natstest.Server) (*Publisher, *nats.Conn) {
	t.Helper()
	nc := server.Connect()
	return runningOver(t, nc, Config{}), nc
}

// runningOver is running over a connection.
func runningOver(t testing.TB, nc *nats.Conn, cfg Config) *Publisher {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Stream = natsx.StreamConfig{MaxAge: time.Hour, MaxBytes: 1 << 30}
	p, err := New(nc, js, cfg, prometheus.NewRegistry(), natstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		p.Close()
	})
	natstest.Eventually(t, 30*time.Second, "the stream is declared", func() bool { return p.Ready() == nil })
	return p
}

// An id is only given where the epoch is certain.
func TestIDs(t *testing.T) {
	server := natstest.Start(t)
	other := server.Connect()
	p, _ := running(t, server)
	s := p.stream
	store := func() {
		t.Helper()
		one := &proto.Publication{Event: "message", Data: []byte("1")}
		if _, err := p.Settle(t.Context(), p.Send(&Origin{Sender: "shop"}, one, "a", Whole)); err != nil {
			t.Fatal(err)
		}
	}
	store()
	store()
	m, err := s.mark()
	if err != nil || m.last != 2 {
		t.Fatalf("mark: got %+v, %v, want 2", m, err)
	}
	give := func(what string, ack jetstream.PubAck, want string) {
		t.Helper()
		out := outcome{seq: ack.Sequence, duplicate: ack.Duplicate}
		if s.certain(out, m) {
			if want != m.life.epoch {
				t.Errorf("%s: certainly of %s, want %q", what, m.life.epoch, want)
			}
			return
		}
		got, err := s.epoch(t.Context(), out, m)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", what, got, err, want)
		}
	}
	old := m.life.epoch
	store()
	give("the next one", jetstream.PubAck{Sequence: 3}, old)
	give("a duplicate", jetstream.PubAck{Sequence: 1, Duplicate: true}, old)
	give("lower, but of the same life", jetstream.PubAck{Sequence: 2}, old)
	epoch := natstest.RemakeStream(t, other, 10)
	give("lower, and of a new life", jetstream.PubAck{Sequence: 2}, epoch)
	give("higher, and the life has changed", jetstream.PubAck{Sequence: 5}, "")
	give("a duplicate of either life", jetstream.PubAck{Sequence: 1, Duplicate: true}, "")
	if m, err = s.mark(); err != nil || m.life.epoch != epoch || m.last != 10 {
		t.Fatalf("mark: got %+v, %v, want 10 of %s", m, err, epoch)
	}
	give("in the new life", jetstream.PubAck{Sequence: 11}, epoch)

	// After an outage nothing is given before NATS was asked again.
	s.outages.Add(1)
	third := natstest.RemakeStream(t, other, 0)
	give("higher, after an outage", jetstream.PubAck{Sequence: 12}, "")
	if got := s.life.Load().epoch; got != third || s.outages.Load() != s.cleared.Load() {
		t.Errorf("epoch: got %s, want %s, and no doubt left", got, third)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.outages.Add(1)
	if _, err := s.epoch(ctx, outcome{seq: 1}, mark{s.life.Load(), 0}); err == nil {
		t.Error("an id without asking NATS")
	}
	if err := s.check(t.Context()); err != nil {
		t.Error(err)
	}
}
