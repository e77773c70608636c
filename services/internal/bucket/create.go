package bucket

import (
	"bytes"
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// createLooks bounds how long Create looks for what became of a value.
const createLooks = 3 * time.Second

// Create is kv.Create where an answer may be lost or late: after an error it looks, also if ctx has ended, whether the
// value is stored, and then there was none. The value must be one that nobody else stores, such as one that has a
// random part. Without that look a secret of which only the digest is kept would be lost, and nobody would know it.
func Create(ctx context.Context, kv jetstream.KeyValue, key string, value []byte) error {
	_, err := kv.Create(ctx, key, value)
	if err == nil {
		return nil
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), createLooks)
	defer cancel()
	if e, fault := kv.Get(look, key); fault == nil && bytes.Equal(e.Value(), value) {
		return nil
	}
	return err
}
