package bucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Entries is a whole bucket by its entries' names, with the markers of deleted
// ones.
//
// A watcher of nats.go says that it has given everything, but an entry that is
// written in that moment may come after it (seen with nats-server 2.15.2). So
// Entries counts, and reads again what is not whole.
func Entries(ctx context.Context, kv jetstream.KeyValue) (map[string]jetstream.KeyValueEntry, error) {
	for range listAttempts {
		entries, err := snapshot(ctx, kv)
		if err != nil {
			return nil, err
		}
		status, err := kv.Status(ctx)
		if err != nil {
			return nil, err
		}
		// One value an entry, revoked ones too; a bucket that somebody made
		// with a longer history cannot be counted.
		if uint64(len(entries)) >= status.Values() || status.History() > 1 {
			return entries, nil
		}
	}
	return nil, fmt.Errorf("bucket %s changes faster than it can be read", kv.Bucket())
}

// listAttempts is far more than it takes: with one writer that never paused, 1
// reading in 20 was not whole.
const listAttempts = 20

// snapshot reads the bucket once, as far as a watcher gives it.
func snapshot(ctx context.Context, kv jetstream.KeyValue) (map[string]jetstream.KeyValueEntry, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a goroutine that nats.go starts per watcher
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, err
	}
	defer stop(w)
	entries := map[string]jetstream.KeyValueEntry{}
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e, open := <-w.Updates():
			if !open { // half a list would let a name be taken twice
				return nil, errors.New("NATS broke off the answer")
			}
			if e == nil { // the end of what is stored
				return entries, nil
			}
			entries[e.Key()] = e
		}
	}
}

// stop ends a watcher and reads what it still holds, since its goroutine blocks
// for ever on a full channel. Stop fails only when the connection is closed.
func stop(w jetstream.KeyWatcher) {
	_ = w.Stop()
	patience := time.After(time.Second)
	for {
		select {
		case _, open := <-w.Updates():
			if !open {
				return
			}
		case <-patience:
			return
		}
	}
}
