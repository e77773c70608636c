package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/nats-io/nats.go/jetstream"
)

// openStores finds the buckets of the console, or makes them, on as many servers
// as the API keys are: ingest, which has that setting, makes theirs.
func (s *Service) openStores(ctx context.Context) (*stores, error) {
	replicas := 1
	keys, err := s.js.Stream(ctx, "KV_"+keystore.Bucket)
	switch before := s.stores.Load(); {
	case err == nil:
		replicas = max(1, keys.CachedInfo().Config.Replicas)
	case errors.Is(err, jetstream.ErrStreamNotFound) && before != nil: // it was deleted, too; ingest makes it anew
		replicas = before.replicas
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, errors.New("ingest has not made the bucket of the API keys yet")
	default:
		return nil, fmt.Errorf("look at the bucket %s: %w", keystore.Bucket, err)
	}
	userKV, err := s.bucket(ctx, jetstream.KeyValueConfig{Bucket: users.Bucket, Description: "Users of the console",
		Replicas: replicas})
	if err != nil {
		return nil, err
	}
	sessionKV, err := s.bucket(ctx, jetstream.KeyValueConfig{Bucket: sessionBucket,
		Description: "Sessions of the console", Replicas: replicas, TTL: sessionLifetime, MaxBytes: sessionBytes})
	if err != nil {
		return nil, err
	}
	rows, err := audit.Open(ctx, s.js, replicas)
	if err != nil {
		return nil, err
	}
	sessions, err := s.js.Stream(ctx, "KV_"+sessionBucket)
	if err != nil {
		return nil, fmt.Errorf("look at the bucket %s: %w", sessionBucket, err)
	}
	return &stores{mark: markOf(sessions.CachedInfo()), replicas: replicas, users: users.New(userKV, s.nc.IsConnected),
		sessions: newSessionStore(sessionKV, s.nc.IsConnected), audit: rows}, nil
}

// bucket finds a bucket, or makes it. One with another number of replicas is
// brought to this one.
func (s *Service) bucket(ctx context.Context, cfg jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	cfg.History = 1
	kv, err := s.js.KeyValue(ctx, cfg.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		if kv, err = s.js.CreateKeyValue(ctx, cfg); errors.Is(err, jetstream.ErrBucketExists) { // by another process
			kv, err = s.js.KeyValue(ctx, cfg.Bucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", cfg.Bucket, err)
	}
	stream, err := s.js.Stream(ctx, "KV_"+cfg.Bucket)
	if err != nil {
		return nil, fmt.Errorf("look at the bucket %s: %w", cfg.Bucket, err)
	}
	if has := stream.CachedInfo().Config; has.Replicas != cfg.Replicas {
		has.Replicas = cfg.Replicas
		if _, err := s.js.UpdateStream(ctx, has); err != nil {
			s.log.Warn("a bucket of the console is not on as many servers as the API keys",
				"bucket", cfg.Bucket, "err", err)
		}
	}
	return kv, nil
}
