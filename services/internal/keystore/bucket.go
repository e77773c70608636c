package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/nats-io/nats.go/jetstream"
)

// Open finds the bucket. The error is ErrNoBucket before ingest has made it.
func Open(ctx context.Context, js jetstream.JetStream) (*Store, error) {
	return storeOf(js)(bucket.Open(ctx, js, Bucket))
}

// Make finds the bucket, or makes it with this many replicas. Only ingest does:
// it knows on how many servers messages are, and keys are no less.
func Make(ctx context.Context, js jetstream.JetStream, replicas int) (*Store, error) {
	return storeOf(js)(bucket.Make(ctx, js, Bucket, "Digests of Herald's API keys", replicas))
}

// storeOf makes a Store of what Open and Make of package bucket return.
func storeOf(js jetstream.JetStream) func(jetstream.KeyValue, error) (*Store, error) {
	return func(kv jetstream.KeyValue, err error) (*Store, error) {
		if errors.Is(err, bucket.ErrNone) {
			err = ErrNoBucket
		}
		if err != nil {
			return nil, err
		}
		return &Store{kv: kv, nc: js.Conn()}, nil
	}
}

// Remaking is the store whose Watch makes the bucket anew, with this many replicas and the keys that it knows, where
// somebody deletes the bucket meanwhile. Only ingest does.
func (s *Store) Remaking(js jetstream.JetStream, replicas int) *Store {
	return &Store{s.kv, s.nc, func(ctx context.Context) error {
		_, err := Make(ctx, js, replicas)
		return err
	}}
}

// Remaking is Store.Remaking of the apps.
func (a *AppStore) Remaking(js jetstream.JetStream, replicas int) *AppStore {
	return &AppStore{&Store{a.s.kv, a.s.nc, func(ctx context.Context) error {
		_, err := MakeApps(ctx, js, replicas)
		return err
	}}}
}

// Replicate brings the buckets of keys and apps, made with another number of
// replicas, to this one, and changes nothing else of them.
func Replicate(ctx context.Context, js jetstream.JetStream, replicas int) error {
	return errors.Join(bucket.Replicate(ctx, js, Bucket, replicas), bucket.Replicate(ctx, js, AppBucket, replicas))
}

// EnvName is the name of the key of HERALD_API_KEY. No other key gets it.
const EnvName = "env"

// Environment is the key for everything that HERALD_API_KEY is. But a key that
// the bucket has, or had until it was revoked, stays what the bucket says:
// whoever exported it to use it, and starts a server in that shell, must not make
// more of it. Then stored is true, and the key of no use.
func (s *Store) Environment(ctx context.Context, secret string, now time.Time) (k auth.Key, stored bool, err error) {
	if k, err = auth.NewKey(secret, EnvName, []string{">"}, auth.Scopes, now); err != nil {
		return k, false, err
	}
	_, err = s.kv.History(ctx, "key."+k.ID) // unlike Get it has the marker of a revoked one
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return k, false, nil
	case err != nil:
		return k, false, fmt.Errorf("look for the key of HERALD_API_KEY: %w", err)
	}
	return k, true, nil
}
