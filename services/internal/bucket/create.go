package bucket

import (
	"bytes"
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// createLooks bounds how long Create looks for what became of a value.
const createLooks = 3 * time.Second

// Create is kv.Create where an answer may be lost or late: after an error, and also if ctx has ended, it reads the
// entry, and returns nil if the value is stored. The value must be one that nobody else stores, such as one that has a
// random part. Otherwise a key could be stored, by its digest, whose secret nobody was shown.
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
