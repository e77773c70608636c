package settings

import (
	"context"
	"errors"
	"fmt"

	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/nats-io/nats.go/jetstream"
)

// Store changes the stored values. The caller asks Check of every process before it
// stores a value. Safe for concurrent use.
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

// ErrChanged is of a setting that somebody else has changed meanwhile.
var ErrChanged = errors.New("somebody else changed it in this moment; look again")

// Revision is that of what is stored for a setting; 0: nothing is.
func (s *Store) Revision(ctx context.Context, name string) (uint64, error) {
	e, err := s.kv.Get(ctx, prefix+name)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read setting %s: %w", name, err)
	}
	return e.Revision(), nil
}

// Replace is Set, or Unset for nil, over what is stored with this revision. The error is
// ErrChanged if something else is stored by now.
func (s *Store) Replace(ctx context.Context, name string, value *string, revision uint64) (err error) {
	key := prefix + name
	switch {
	case value == nil && revision == 0:
		return nil
	case value == nil:
		err = s.kv.Delete(ctx, key, jetstream.LastRevision(revision))
	case revision == 0:
		_, err = s.kv.Create(ctx, key, []byte(*value))
	default:
		_, err = s.kv.Update(ctx, key, []byte(*value), revision)
	}
	var refused *jetstream.APIError
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) ||
		errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return fmt.Errorf("setting %s: %w", name, ErrChanged)
	}
	if err != nil {
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
