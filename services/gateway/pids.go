package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/socketio"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// bucket holds what all gateways of a deployment share, and nobody else needs.
	bucket = "herald_gateways"
	// pidKey is its entry with the secret that signs pids: 32 bytes, made by the first
	// gateway. To delete it makes every pid invalid when the gateways start next.
	pidKey = "pid-secret"
	// secretBytes is the size of that secret.
	secretBytes = 32
	// secretPatience is for how long a gateway without the shared secret is not ready, and sends
	// Socket.IO clients away, before it signs with a secret of its own until it gets the shared one.
	secretPatience = 5 * time.Second
)

// shareSecret gets the secret that signs pids, and tries until it has it or ctx ends.
func (s *Service) shareSecret(ctx context.Context) {
	begin := time.Now()
	again := retry.Policy{Pause: time.Second, Every: func(err error) {
		if s.pids.Load() == nil && time.Since(begin) > secretPatience {
			s.log.Warn("the secret by which Socket.IO clients recover is not to be had; until it is they "+
				"recover at this gateway only, and not after its restart",
				"bucket", bucket, "err", err)
			own := make([]byte, secretBytes)
			_, _ = rand.Read(own) // it never fails
			s.pids.Store(socketio.NewSigner(own))
		}
	}}
	_ = again.Until(ctx, func(ctx context.Context) error { // fails only when ctx ends
		secret, err := sharedSecret(ctx, s.deps.NATS)
		if err == nil {
			s.pids.Store(socketio.NewSigner(secret))
		}
		return err
	})
}

// sharedSecret returns the secret of the bucket, and makes both if they are missing. Of
// several gateways that make it at once, all get that of the first.
func sharedSecret(ctx context.Context, nc *nats.Conn) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = makeBucket(ctx, js)
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	secret := make([]byte, secretBytes)
	_, _ = rand.Read(secret) // it never fails
	if _, err := kv.Create(ctx, pidKey, secret); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
		return nil, fmt.Errorf("make %s in bucket %s: %w", pidKey, bucket, err)
	}
	e, err := kv.Get(ctx, pidKey)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s in bucket %s: %w", pidKey, bucket, err)
	case len(e.Value()) < secretBytes:
		return nil, fmt.Errorf("%s in bucket %s has %d bytes, not %d: delete it, and a new one is made", pidKey, bucket,
			len(e.Value()), secretBytes)
	}
	return e.Value(), nil
}

// makePatience is how long the making of the bucket may take.
const makePatience = 2 * time.Second

// makeBucket makes the bucket, on as many servers as the messages are.
func makeBucket(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	stream, err := js.Stream(ctx, proto.Stream)
	if err != nil {
		return nil, err
	}
	// NATS goes on making it when ctx ends; who stops waits for that, if not for long.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makePatience)
	defer cancel()
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bucket, Description: "What Herald's gateways share", History: 1,
		Replicas: stream.CachedInfo().Config.Replicas,
	})
	if errors.Is(err, jetstream.ErrBucketExists) { // another gateway was quicker
		return js.KeyValue(ctx, bucket)
	}
	return kv, err
}
