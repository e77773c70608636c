package natsx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// AskStore changes nothing in a store that works, empty or not. What it says of
// one that has failed is for the fault suite to show, with a disk that is full.
func TestAskStoreThatWorks(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js, _ := s.Stream(nc)
	for range 3 {
		if fault, err := natsx.AskStore(ctx, nc); fault != nil || err != nil {
			t.Errorf("got %v, %v, want none", fault, err)
		}
		if _, err := js.Publish(ctx, "herald.msg.a", []byte(`{"data":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(ctx, "HERALD")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
	s.Stop()
	if _, err := natsx.AskStore(ctx, nc); err == nil {
		t.Error("without NATS: got no error")
	}
}

// A NATS that has no room for larger limits keeps the stream as it is, which
// is no reason not to use it. What else differs is one.
func TestEnsureStreamKeepsLimits(t *testing.T) {
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(),
		JetStreamMaxStore: 1 << 20, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	large, small := natsx.StreamConfig{MaxBytes: 2 << 20}, natsx.StreamConfig{MaxBytes: 1 << 19}
	if epoch, err := natsx.EnsureStream(ctx, js, large); err == nil || epoch != "" {
		t.Fatalf("larger than the store: got %q, %v, want an error", epoch, err)
	}
	first, err := natsx.EnsureStream(ctx, js, small)
	if err != nil {
		t.Fatal(err)
	}
	if epoch, err := natsx.EnsureStream(ctx, js, large); epoch != first || !errors.Is(err, natsx.ErrLimitsKept) {
		t.Errorf("larger, with a stream that is there: got %q, %v, want %q and ErrLimitsKept", epoch, err, first)
	}
	three := small
	three.Replicas = 3
	if epoch, err := natsx.EnsureStream(ctx, js, three); epoch != "" || err == nil ||
		errors.Is(err, natsx.ErrLimitsKept) {
		t.Errorf("three replicas: got %q, %v, want an error", epoch, err)
	}
	if _, err := natsx.EnsureStream(ctx, js, natsx.StreamConfig{MaxBytes: 1 << 18}); err != nil {
		t.Errorf("smaller: %v", err)
	}
}
