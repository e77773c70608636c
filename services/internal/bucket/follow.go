package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// resyncEvery bounds how long an entry may stay applied after a removal that
// the watcher did not receive.
const resyncEvery = time.Minute

// retryEvery is how long Follow waits after NATS refused it a watcher.
const retryEvery = 250 * time.Millisecond

// errResync ends a watcher so that the bucket is read again from its start.
var errResync = errors.New("start over")

// Follow calls Put and Remove until ctx ends, and goes on by itself over NATS
// outages. It is called once. The error is that of a connection that its owner closed.
//
// A watcher of nats.go goes on by itself too, but measured with nats-server
// 2.15.2 it notices a restart of NATS only after 20 s, and never an entry that
// left no marker: one whose marker was purged, or whose bucket was made anew
// or restored. So Follow reads the whole bucket again after each reconnect and
// once a minute, and removes the entries that are no longer in it.
func (f *Follower) Follow(ctx context.Context, nc *nats.Conn, kv jetstream.KeyValue) error {
	f.known = map[string]applied{}
	reconnected := nc.StatusChanged(nats.CONNECTED)
	defer nc.RemoveStatusListener(reconnected)
	for {
		err := f.restore(ctx, kv)
		if err == nil {
			err = f.follow(ctx, kv, reconnected)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case nc.IsClosed():
			return fmt.Errorf("watch %ss: %w", f.What, nats.ErrConnectionClosed)
		case errors.Is(err, errResync):
			continue
		}
		if f.failed.New(err) {
			f.Log.Warn(f.What+"s cannot be watched; trying again", "err", err)
		}
		if retry.Pause(ctx, retryEvery) != nil {
			return nil
		}
	}
}

// Follower keeps something equal to the entries of a bucket whose names begin with
// Prefix. Its exported fields are set before Follow, whose goroutine calls the
// functions and owns the rest.
type Follower struct {
	Prefix string // such as "key."
	What   string // one entry is, in the log: "API key"
	Gone   string // what the log says of one that is removed; empty: revoked
	// Put applies the value of an entry, whose name is given without Prefix, and returns
	// what the log calls it, or why the entry is damaged. Then Remove follows.
	Put    func(id string, value []byte) (name string, err error)
	Remove func(id string) // removes what Put has applied
	Ready  func()          // called once, when what was stored at the start is applied
	Log    *slog.Logger
	// Make makes the bucket anew where somebody has deleted it while it was followed. Follow then stores again what it
	// has applied, so that nobody loses a key or a setting. Nil: that is another process's, and what was applied stays.
	Make func(ctx context.Context) error

	known  map[string]applied // each entry that was applied, also damaged ones
	loaded bool               // what was stored at the start is applied
	lost   bool               // the bucket was deleted, and not all that was applied is stored again
	made   time.Time          // when the bucket that is followed was made; zero: it is not known
	failed retry.Row          // errors since the bucket was last read whole
}

// applied is an entry that was applied.
type applied struct {
	revision uint64
	value    []byte // nil where the bucket is not this process's to make anew
}

// follow reads the bucket from the start and goes on with what changes, until
// it is time to start over or the watcher breaks.
func (f *Follower) follow(ctx context.Context, kv jetstream.KeyValue, reconnected <-chan nats.Status) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a goroutine that nats.go starts per watcher
	w, err := kv.Watch(ctx, f.Prefix+"*")
	if err != nil {
		return err
	}
	defer stop(w)
	resync := time.NewTimer(resyncEvery)
	defer resync.Stop()
	var look <-chan time.Time
	if f.Make != nil {
		every := time.NewTicker(lookEvery)
		defer every.Stop()
		look = every.C
	}
	stored := map[string]bool{} // until all that is stored was seen, then nil
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-reconnected:
			return errResync
		case <-resync.C:
			return errResync
		case <-look:
			if f.gone(ctx, kv) {
				return errResync
			}
		case e, open := <-w.Updates():
			switch {
			case !open:
				return errors.New("the watcher ended")
			case e != nil:
				if f.apply(e) && stored != nil {
					stored[e.Key()] = true
				}
			case stored != nil:
				if err := f.dropMissing(ctx, kv, stored); err != nil {
					return err
				}
				stored = nil
				if f.failed.End() {
					f.Log.Info(f.What + "s are watched again")
				}
				if !f.loaded {
					f.loaded = true
					level := slog.LevelInfo
					if len(f.known) == 0 { // nothing that a person who starts Herald wants to know
						level = slog.LevelDebug
					}
					f.Log.Log(ctx, level, f.What+"s loaded", "count", len(f.known))
					f.Ready()
				}
			}
		}
	}
}

// dropMissing drops the entries that are no longer stored. One that is written in
// this moment may come only after the watcher's end marker, so
// each is asked for.
func (f *Follower) dropMissing(ctx context.Context, kv jetstream.KeyValue, stored map[string]bool) error {
	for key := range f.known {
		if stored[key] {
			continue
		}
		e, err := kv.Get(ctx, key)
		switch {
		case err == nil:
			f.apply(e)
		case errors.Is(err, jetstream.ErrKeyNotFound):
			f.drop(key)
		default:
			return err
		}
	}
	return nil
}

// apply applies one entry: it puts or removes what the entry holds. It reports whether the entry exists.
func (f *Follower) apply(e jetstream.KeyValueEntry) bool {
	if e.Operation() != jetstream.KeyValuePut {
		f.drop(e.Key())
		return false
	}
	if f.known[e.Key()].revision == e.Revision() {
		return true // read again
	}
	known := applied{revision: e.Revision()}
	if f.Make != nil {
		known.value = e.Value()
	}
	f.known[e.Key()] = known
	id := strings.TrimPrefix(e.Key(), f.Prefix)
	name, err := f.Put(id, e.Value())
	if err != nil {
		f.Remove(id) // a damaged entry opens no door
		f.Log.Error(f.What+" ignored", "key", id, "err", err)
		return true
	}
	level := slog.LevelDebug // at the start a count says enough
	if f.loaded {
		level = slog.LevelInfo
	}
	f.Log.Log(context.Background(), level, f.What+" known", "key", id, "name", name)
	return true
}

// drop removes what apply has put.
func (f *Follower) drop(key string) {
	if _, ok := f.known[key]; !ok {
		return // revoked before this process began
	}
	delete(f.known, key)
	id := strings.TrimPrefix(key, f.Prefix)
	f.Remove(id)
	f.Log.Info(f.What+" "+cmp.Or(f.Gone, "revoked"), "key", id)
}
