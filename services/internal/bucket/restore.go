package bucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// lookEvery is how often a Follower with Make looks whether the bucket is there: nothing else says at once that
// somebody deleted it.
const lookEvery = 5 * time.Second

// restoreTimeout bounds one try to make a bucket anew.
const restoreTimeout = 10 * time.Second

// gone reports whether NATS says that there is no such bucket. It notes that for restore.
func (f *Follower) gone(ctx context.Context, kv jetstream.KeyValue) bool {
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	_, err := kv.Status(ctx)
	if !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, jetstream.ErrBucketNotFound) {
		return false
	}
	f.lost = true
	return true
}

// restore makes a bucket anew that was deleted while it was followed, and stores again what was applied. It reads
// nothing of the bucket before all is stored: an entry that is not there yet would count as removed. What others,
// who do the same, have stored meanwhile stays.
func (f *Follower) restore(ctx context.Context, kv jetstream.KeyValue) error {
	if f.Make == nil || !f.loaded || !f.lost && !f.gone(ctx, kv) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	if err := f.Make(ctx); err != nil {
		return err
	}
	for key, known := range f.known {
		if _, err := kv.Create(ctx, key, known.value); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return fmt.Errorf("store %s again: %w", key, err)
		}
	}
	f.lost = false
	f.Log.Error("somebody deleted a bucket while Herald ran; it was made anew with what this process knew",
		"bucket", kv.Bucket(), "entries", len(f.known))
	return nil
}
