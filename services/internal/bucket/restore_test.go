package bucket_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, natstest.Leaks()...) }

// NATS says for a moment that there is no such bucket, and somebody removes an entry just then: it stays removed.
func TestBucketThatIsThereIsNotRestored(t *testing.T) {
	nc := natstest.Start(t).Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	real, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "things"})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"kept", "removed"} {
		if _, err := real.PutString(t.Context(), key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	kv := &forgetful{KeyValue: real, meanwhile: func() {
		if err := real.Delete(context.Background(), "removed"); err != nil {
			t.Error(err)
		}
	}}
	var has, made atomic.Int64
	loaded := make(chan struct{})
	f := bucket.Follower{
		What: "thing", Log: slog.New(slog.DiscardHandler),
		Put:    func(id string, _ []byte) (string, error) { has.Add(1); return id, nil },
		Remove: func(string) { has.Add(-1) },
		Ready:  func() { close(loaded) },
		Make:   func(context.Context) error { made.Add(1); return nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Follow(ctx, nc, kv) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-loaded
	kv.forgets.Store(true)
	natstest.Eventually(t, time.Minute, "it was looked for", func() bool { return made.Load() > 0 })
	natstest.Eventually(t, time.Minute, "it is followed again, without what was removed",
		func() bool { return has.Load() == 1 })
	if keys, err := real.Keys(t.Context()); err != nil || len(keys) != 1 || keys[0] != "kept" {
		t.Errorf("got %v, %v, want the entry that nobody removed", keys, err)
	}
}

// forgetful is a bucket of which NATS says once that it is not there.
type forgetful struct {
	jetstream.KeyValue
	forgets   atomic.Bool
	meanwhile func()
}

func (f *forgetful) Status(ctx context.Context) (jetstream.KeyValueStatus, error) {
	if f.forgets.Swap(false) {
		f.meanwhile()
		return nil, jetstream.ErrBucketNotFound
	}
	return f.KeyValue.Status(ctx)
}
