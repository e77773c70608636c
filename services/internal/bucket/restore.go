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

// gone reports whether NATS says that there is no such bucket. It notes that for restore, or when the bucket was made.
func (f *Follower) gone(ctx context.Context, kv jetstream.KeyValue) bool {
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	made, err := madeAt(ctx, kv)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrBucketNotFound):
		f.lost = true
	case err == nil && !f.lost:
		f.made = made
	}
	return f.lost
}

// madeAt is when the bucket was made.
func madeAt(ctx context.Context, kv jetstream.KeyValue) (time.Time, error) {
	status, err := kv.Status(ctx)
	if err != nil {
		return time.Time{}, err
	}
	of, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return time.Time{}, fmt.Errorf("the state of bucket %s is a %T", kv.Bucket(), status)
	}
	return of.StreamInfo().Created, nil
}

// restore makes a bucket anew that was deleted while it was followed, and stores again what was applied. It reads
// nothing of the bucket before all is stored: an entry that is not there yet would count as removed. What others,
// who do the same, have stored meanwhile stays. Where the bucket is the one that was followed, NATS did not know it for
// a moment, as while it starts: then nothing is stored, which somebody may have removed just now.
func (f *Follower) restore(ctx context.Context, kv jetstream.KeyValue) error {
	if f.Make == nil || f.loaded && !f.lost && !f.gone(ctx, kv) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	if !f.loaded {
		f.made, _ = madeAt(ctx, kv) // gone asks again
		return nil
	}
	if err := f.Make(ctx); err != nil {
		return err
	}
	made, err := madeAt(ctx, kv)
	if err != nil {
		return err
	}
	if made.Equal(f.made) {
		f.lost = false
		return nil
	}
	for key, known := range f.known {
		if _, err := kv.Create(ctx, key, known.value); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return fmt.Errorf("store %s again: %w", key, err)
		}
	}
	f.made, f.lost = made, false
	f.Log.Error("somebody deleted a bucket while Herald ran; it was made anew with what this process knew",
		"bucket", kv.Bucket(), "entries", len(f.known))
	return nil
}
