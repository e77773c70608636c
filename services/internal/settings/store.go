package settings

import (
	"context"
	"errors"
	"fmt"

	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/nats-io/nats.go/jetstream"
)

// Store changes what is stored. Whoever stores a value has asked Check of every
// process first. Safe for concurrent use.
type Store struct{ kv jetstream.KeyValue }

// Open finds the bucket. The error is bucket.ErrNone before ingest has made it.
func Open(ctx context.Context, js jetstream.JetStream) (*Store, error) {
	return storeOf(bucket.Open(ctx, js, Bucket))
}

// Make finds the bucket, or makes it with this many replicas. Only ingest does.
func Make(ctx context.Context, js jetstream.JetStream, replicas int) (*Store, error) {
	return storeOf(bucket.Make(ctx, js, Bucket, "Settings that Herald's console changed", replicas))
}

func storeOf(kv jetstream.KeyValue, err error) (*Store, error) {
	if err != nil {
		return nil, err
	}
	return &Store{kv}, nil
}

// Set stores a value, as on the command line, for the setting with that flag.
func (s *Store) Set(ctx context.Context, name, value string) error {
	if _, err := s.kv.PutString(ctx, prefix+name, value); err != nil {
		return fmt.Errorf("store setting %s: %w", name, err)
	}
	return nil
}

// Unset removes what is stored: the value that the process began with acts again.
func (s *Store) Unset(ctx context.Context, name string) error {
	if err := s.kv.Delete(ctx, prefix+name); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("remove setting %s: %w", name, err)
	}
	return nil
}
