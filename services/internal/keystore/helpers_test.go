package keystore_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	noon  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	all   = keystore.Options{Channels: []string{">"}}
)

// open opens the bucket on a connection of its own, as another process does.
func open(t testing.TB, s *natstest.Server) (*keystore.Store, jetstream.JetStream) {
	t.Helper()
	return openOn(t, s.Connect())
}

func openOn(t testing.TB, nc *nats.Conn) (*keystore.Store, jetstream.JetStream) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Make(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	return store, js
}

func bucket(t testing.TB, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), keystore.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func add(t testing.TB, s *keystore.Store, name string) (secret string, k auth.Key) {
	t.Helper()
	secret, k, err := s.Add(t.Context(), name, all, noon)
	if err != nil {
		t.Fatal(err)
	}
	return secret, k
}

func list(t testing.TB, s *keystore.Store) []keystore.Info {
	t.Helper()
	keys, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// watch keeps a ring equal to the bucket until the test ends.
func watch(t testing.TB, s *keystore.Store, log *slog.Logger) *auth.Ring {
	t.Helper()
	var ring auth.Ring
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Watch(ctx, &ring, log, func() { close(ready) }) }() // closing twice would panic
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	return &ring
}

func valid(ring *auth.Ring, secret string) bool {
	_, err := ring.Authenticate(secret, noon)
	return err == nil
}

func put(t testing.TB, kv jetstream.KeyValue, key, value string) {
	t.Helper()
	if _, err := kv.PutString(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}
