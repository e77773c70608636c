package keystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// resyncEvery bounds how long a key may stay valid after a revocation that
// the watcher did not receive.
const resyncEvery = time.Minute

// retryEvery is how long Watch waits after NATS refused it a watcher.
const retryEvery = 250 * time.Millisecond

// errResync ends a watcher so that the bucket is read again from its start.
var errResync = errors.New("start over")

// Watch keeps ring equal to the bucket until ctx ends. ready is called once,
// when the ring holds what was stored at the start. Watching goes on by
// itself over NATS outages; the keys known so far stay valid meanwhile. Keys
// that Watch did not put into the ring are not its business.
//
// A watcher of nats.go goes on by itself too, but measured with nats-server
// 2.15.2 it notices a restart of NATS only after 20 s, and never a key that
// left no marker: one whose marker was purged, or whose bucket was made anew
// or restored. So Watch reads the whole bucket again after each reconnect and
// once a minute, and removes the keys that are no longer in it.
func (s *Store) Watch(ctx context.Context, ring *auth.Ring, log *slog.Logger, ready func()) error {
	return s.watch(ctx, &follower{
		prefix: "key.", what: "API key", log: log, known: map[string]uint64{}, ready: sync.OnceFunc(ready),
		put: func(id string, value []byte) (name string, err error) {
			k, err := parse(id, value)
			if err == nil {
				err = ring.Put(k)
			}
			return k.Name, err
		},
		remove: ring.Delete,
	})
}

// watch follows the bucket until ctx ends: see Watch.
func (s *Store) watch(ctx context.Context, f *follower) error {
	reconnected := s.nc.StatusChanged(nats.CONNECTED)
	defer s.nc.RemoveStatusListener(reconnected)
	for {
		err := f.follow(ctx, s.kv, reconnected)
		switch {
		case ctx.Err() != nil:
			return nil
		case s.nc.IsClosed():
			return fmt.Errorf("watch %ss: %w", f.what, nats.ErrConnectionClosed)
		case errors.Is(err, errResync):
			continue
		}
		if f.failed.New(err) {
			f.log.Warn(f.what+"s cannot be watched; trying again", "err", err)
		}
		if retry.Pause(ctx, retryEvery) != nil {
			return nil
		}
	}
}

// follower is the state of one Watch. Its goroutine owns it.
type follower struct {
	// Fixed.
	prefix string                                                 // of the entries, such as "key."
	what   string                                                 // one entry is, in the log
	put    func(id string, value []byte) (name string, err error) // applies an entry, or returns why it is damaged
	remove func(id string)                                        // removes it
	log    *slog.Logger

	known  map[string]uint64 // revision of each entry that was applied, also of damaged ones
	ready  func()
	loaded bool      // what was stored at the start is applied
	failed retry.Row // errors since the bucket was last read whole
}

// follow reads the bucket from the start and goes on with what changes, until
// it is time to start over or the watcher breaks.
func (f *follower) follow(ctx context.Context, kv jetstream.KeyValue, reconnected <-chan nats.Status) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a goroutine that nats.go starts per watcher
	w, err := kv.Watch(ctx, f.prefix+"*")
	if err != nil {
		return err
	}
	defer stop(w)
	resync := time.NewTimer(resyncEvery)
	defer resync.Stop()
	stored := map[string]bool{} // until all that is stored was seen, then nil
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-reconnected:
			return errResync
		case <-resync.C:
			return errResync
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
					f.log.Info(f.what + "s are watched again")
				}
				if !f.loaded {
					f.loaded = true
					f.log.Info(f.what+"s loaded", "count", len(f.known))
				}
				f.ready()
			}
		}
	}
}

// dropMissing drops the keys that are no longer stored. One that is written in
// this moment may come only after the watcher's end marker (as in List), so
// each is asked for.
func (f *follower) dropMissing(ctx context.Context, kv jetstream.KeyValue, stored map[string]bool) error {
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
func (f *follower) apply(e jetstream.KeyValueEntry) bool {
	if e.Operation() != jetstream.KeyValuePut {
		f.drop(e.Key())
		return false
	}
	if f.known[e.Key()] == e.Revision() {
		return true // read again
	}
	f.known[e.Key()] = e.Revision()
	id := strings.TrimPrefix(e.Key(), f.prefix)
	name, err := f.put(id, e.Value())
	if err != nil {
		f.remove(id) // a damaged entry opens no door
		f.log.Error(f.what+" ignored", "key", id, "err", err)
		return true
	}
	level := slog.LevelDebug // at the start a count says enough
	if f.loaded {
		level = slog.LevelInfo
	}
	f.log.Log(context.Background(), level, f.what+" known", "key", id, "name", name)
	return true
}

// drop removes what apply has put.
func (f *follower) drop(key string) {
	if _, ok := f.known[key]; !ok {
		return // revoked before this process began
	}
	delete(f.known, key)
	id := strings.TrimPrefix(key, f.prefix)
	f.remove(id)
	f.log.Info(f.what+" revoked", "key", id)
}
