// Package bucket makes, finds and follows the JetStream KV buckets that services
// share: API keys, apps, settings. It does not know what an entry means.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrNone: nobody has made the bucket yet.
var ErrNone = errors.New("the bucket is not there yet: ingest makes it when it first starts")

// Open finds a bucket. The error is ErrNone before ingest has made it.
func Open(ctx context.Context, js jetstream.JetStream, name string) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		err = ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	return kv, nil
}

// makePatience is how long the making of a bucket may take.
const makePatience = 5 * time.Second

// Make finds a bucket, or makes it with this many replicas and one value an entry.
// Only ingest does: it knows on how many servers messages are.
func Make(ctx context.Context, js jetstream.JetStream, name, description string, replicas int) (jetstream.KeyValue,
	error) {
	kv, err := Open(ctx, js, name)
	if !errors.Is(err, ErrNone) {
		return kv, err
	}
	// NATS goes on making it when ctx ends; who stops waits for that, if not for long.
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), makePatience)
	defer cancel()
	_, err = js.CreateKeyValue(ask, jetstream.KeyValueConfig{
		Bucket:      name,
		Description: description,
		History:     1,
		Replicas:    max(1, replicas),
	})
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) { // another process was quicker
		return nil, fmt.Errorf("make bucket %s: %w", name, err)
	}
	return Open(ctx, js, name)
}

// Replicate brings a bucket that was made with another number of replicas to this
// one, and changes nothing else of it. One that is not there is made with the right
// number later.
func Replicate(ctx context.Context, js jetstream.JetStream, name string, replicas int) error {
	s, err := js.Stream(ctx, "KV_"+name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at bucket %s: %w", name, err)
	}
	cfg := s.CachedInfo().Config
	has := cfg.Replicas
	if cfg.Replicas = max(1, replicas); has == cfg.Replicas {
		return nil
	}
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("bring bucket %s from %d to %d replicas: %w", name, has, cfg.Replicas, err)
	}
	return nil
}
