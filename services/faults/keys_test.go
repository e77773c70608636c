package faults

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
)

// Who loses a NATS server must not lose the keys. A bucket that somebody made on
// one server is brought to as many as the messages are on.
func TestKeysOnAsManyServersAsMessages(t *testing.T) {
	t.Parallel()
	s := newBrokers(t, 3)
	natstest.Eventually(t, time.Minute, "there is a bucket on one server", func() (made bool) {
		ask(s.natsURL, func(ctx context.Context, js jetstream.JetStream) {
			_, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: keystore.Bucket, History: 1, Replicas: 1})
			made = err == nil || errors.Is(err, jetstream.ErrBucketExists)
		})
		return made
	})
	s.addServices(shape{ingests: 1, gateways: 1})
	natstest.Eventually(t, time.Minute, "the keys are on three servers", func() (whole bool) {
		ask(s.natsURL, func(ctx context.Context, js jetstream.JetStream) {
			if stream, err := js.Stream(ctx, "KV_"+keystore.Bucket); err == nil {
				info := stream.CachedInfo()
				whole = info.Config.Replicas == 3 && info.Cluster != nil && len(info.Cluster.Replicas) == 2
			}
		})
		return whole
	})
}
