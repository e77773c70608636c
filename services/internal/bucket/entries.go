package bucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Entries returns all entries of a bucket by name, with the markers of deleted
// ones.
//
// A watcher of nats.go marks the end of what was stored, but an entry that is
// written at that moment may come after the mark (seen with nats-server 2.15.2). So
// Entries counts the entries, and reads the bucket again if some are missing.
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

// listAttempts is far more than necessary: with one writer that never paused, 1
// reading in 20 was incomplete.
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
