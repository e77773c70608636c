package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/nats-io/nats.go/jetstream"
)

// Open finds the bucket. The error is ErrNoBucket before ingest has made it.
func Open(ctx context.Context, js jetstream.JetStream) (*Store, error) {
	return openBucket(ctx, js, Bucket)
}

func openBucket(ctx context.Context, js jetstream.JetStream, bucket string) (*Store, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		err = ErrNoBucket
	}
	if err != nil {
		return nil, fmt.Errorf("open key bucket %s: %w", bucket, err)
	}
	return &Store{kv, js.Conn()}, nil
}

// Make finds the bucket, or makes it with this many replicas. Only ingest does:
// it knows on how many servers messages are, and keys are no less.
func Make(ctx context.Context, js jetstream.JetStream, replicas int) (*Store, error) {
	return makeBucket(ctx, js, Bucket, "Digests of Herald's API keys", replicas)
}

// makePatience is how long the making of a bucket may take.
const makePatience = 5 * time.Second

func makeBucket(ctx context.Context, js jetstream.JetStream, bucket, description string, replicas int) (*Store, error) {
	s, err := openBucket(ctx, js, bucket)
	if !errors.Is(err, ErrNoBucket) {
		return s, err
	}
	// NATS goes on making it when ctx ends; who stops waits for that, if not for long.
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), makePatience)
	defer cancel()
	_, err = js.CreateKeyValue(ask, jetstream.KeyValueConfig{
		Bucket:      bucket,
		Description: description,
		History:     1,
		Replicas:    max(1, replicas),
	})
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) { // another process was quicker
		return nil, fmt.Errorf("make key bucket %s: %w", bucket, err)
	}
	return openBucket(ctx, js, bucket)
}

// Replicate brings the buckets of keys and apps, made with another number of
// replicas, to this one, and changes nothing else of them.
func Replicate(ctx context.Context, js jetstream.JetStream, replicas int) error {
	return errors.Join(replicate(ctx, js, Bucket, replicas), replicate(ctx, js, AppBucket, replicas))
}

func replicate(ctx context.Context, js jetstream.JetStream, bucket string, replicas int) error {
	s, err := js.Stream(ctx, "KV_"+bucket)
	if bucket == AppBucket && errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // whoever makes it makes it with the right number
	}
	if err != nil {
		return fmt.Errorf("look at key bucket %s: %w", bucket, err)
	}
	cfg := s.CachedInfo().Config
	if cfg.Replicas == max(1, replicas) {
		return nil
	}
	has := cfg.Replicas
	cfg.Replicas = max(1, replicas)
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("bring key bucket %s from %d to %d replicas: %w", bucket, has, cfg.Replicas, err)
	}
	return nil
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
