// Package keystore keeps the API keys in a JetStream KV bucket, where every
// ingest, the logger, the console and the command line see a key made,
// rotated or revoked at once.
//
// The bucket herald_keys holds "key.<id>" with an auth.Key as JSON, and
// "used.<id>" with the time of the key's last use: two entries, so that a
// busy ingest never overwrites a revocation.
package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is the KV bucket's name.
const Bucket = "herald_keys"

// Errors that people meet at the command line and in the console.
var (
	ErrNotFound = errors.New("no such key")
	ErrExists   = errors.New("there is a key with that name already; rotate it, or choose another name")
)

// Store reads and writes the bucket. Safe for concurrent use.
type Store struct {
	kv jetstream.KeyValue
	nc *nats.Conn // whose reconnects Watch looks for; the caller owns it
}

// Open finds the bucket or makes it with this many replicas.
func Open(ctx context.Context, js jetstream.JetStream, replicas int) (*Store, error) {
	kv, err := js.KeyValue(ctx, Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:      Bucket,
			Description: "Digests of Herald's API keys",
			History:     1,
			Replicas:    max(1, replicas),
		})
		if errors.Is(err, jetstream.ErrBucketExists) { // another process was quicker
			kv, err = js.KeyValue(ctx, Bucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open key bucket %s: %w", Bucket, err)
	}
	return &Store{kv, js.Conn()}, nil
}

// Info is a key as lists show it.
type Info struct {
	auth.Key
	LastUsed time.Time `json:"last_used,omitzero"`
	// Damaged entries have nothing but their ID. They open no door, and can
	// be revoked.
	Damaged bool `json:"damaged,omitempty"`
}

// Options are what a new key may do.
type Options struct {
	Channels []string
	Rate     float64
	Expires  time.Time // zero: never
}

// Add makes a key with a name that no other key has, and returns the secret,
// which is kept nowhere. Of two that add the same name in the same moment both
// may succeed; then the name has two keys, as after Rotate.
func (s *Store) Add(ctx context.Context, name string, o Options, now time.Time) (secret string, k auth.Key, err error) {
	keys, err := s.List(ctx)
	if err != nil {
		return "", auth.Key{}, err
	}
	for _, old := range keys {
		if old.Name == name {
			return "", auth.Key{}, fmt.Errorf("key %q: %w", name, ErrExists)
		}
	}
	return s.create(ctx, name, o, now)
}

func (s *Store) create(ctx context.Context, name string, o Options, now time.Time) (string, auth.Key, error) {
	if o.Rate < 0 {
		return "", auth.Key{}, fmt.Errorf("key rate %v: want messages a second, or 0 for no limit", o.Rate)
	}
	secret := auth.NewSecret()
	k, err := auth.NewKey(secret, name, o.Channels, now)
	if err != nil {
		return "", auth.Key{}, err
	}
	k.Rate, k.Expires = o.Rate, o.Expires
	b, err := json.Marshal(k)
	if err == nil {
		_, err = s.kv.Create(ctx, "key."+k.ID, b)
	}
	if err != nil {
		return "", auth.Key{}, fmt.Errorf("store key %q: %w", k.Name, err)
	}
	return secret, k, nil
}

// First makes the very first key, once for all processes that start
// together: only one of them gets a secret to print, the others an empty one.
func (s *Store) First(ctx context.Context, now time.Time) (secret string, k auth.Key, err error) {
	keys, err := s.List(ctx)
	if err != nil || len(keys) > 0 {
		return "", auth.Key{}, err
	}
	if _, err := s.kv.Create(ctx, "first", []byte(now.UTC().Format(time.RFC3339))); err != nil {
		if errors.Is(err, jetstream.ErrKeyExists) {
			return "", auth.Key{}, nil
		}
		return "", auth.Key{}, fmt.Errorf("claim the first key: %w", err)
	}
	secret, k, err = s.create(ctx, "default", Options{Channels: []string{">"}}, now)
	if err != nil { // let the next process try; this one may have failed because its context ended
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		err = errors.Join(err, s.kv.Delete(undo, "first"))
	}
	return secret, k, err
}

// List returns every key, by name and age.
func (s *Store) List(ctx context.Context) ([]Info, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a goroutine that nats.go starts per watcher
	w, err := s.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	defer stop(w)
	byID := map[string]*Info{}
	used := map[string]time.Time{}
	for complete := false; !complete; {
		var e jetstream.KeyValueEntry
		var open bool
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("list keys: %w", ctx.Err())
		case e, open = <-w.Updates():
		}
		if !open { // half a list would let a name be taken twice
			return nil, errors.New("list keys: NATS broke off the answer")
		}
		if e == nil { // the end of what is stored
			complete = true
			continue
		}
		switch kind, id, _ := strings.Cut(e.Key(), "."); kind {
		case "key":
			k, err := parse(id, e.Value())
			byID[id] = &Info{Key: k, Damaged: err != nil}
		case "used":
			if t, err := time.Parse(time.RFC3339, string(e.Value())); err == nil {
				used[id] = t
			}
		}
	}
	out := make([]Info, 0, len(byID))
	for id, k := range byID {
		k.LastUsed = used[id]
		out = append(out, *k)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := &out[i], &out[j]
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		if !a.Created.Equal(b.Created) {
			return a.Created.Before(b.Created)
		}
		return a.ID < b.ID
	})
	return out, nil
}

// parse reads an entry. One that holds a key of another ID is damaged too: to
// delete the entry would not revoke that key. The key always has the ID.
func parse(id string, value []byte) (auth.Key, error) {
	var k auth.Key
	err := json.Unmarshal(value, &k)
	if err == nil {
		err = k.Check()
	}
	if err == nil && k.ID != id {
		err = fmt.Errorf("it holds the key %q", k.ID)
	}
	if err != nil {
		return auth.Key{ID: id}, fmt.Errorf("entry of key %s is damaged: %w", id, err)
	}
	return k, nil
}

// stop ends a watcher and takes what it still holds, since its goroutine blocks
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

// Rotate makes a new key with the name, channels and rate of the newest one
// of that name, and lets the old ones end after grace. If err is not nil but
// secret is not empty, the new key works, and an old one may not end.
func (s *Store) Rotate(ctx context.Context, name string, grace time.Duration, now time.Time) (secret string, k auth.Key, err error) {
	old, err := s.named(ctx, name)
	if err != nil {
		return "", auth.Key{}, err
	}
	newest := old[len(old)-1]
	secret, k, err = s.create(ctx, newest.Name, Options{Channels: newest.Channels, Rate: newest.Rate}, now)
	if err != nil {
		return "", auth.Key{}, err
	}
	end := now.Add(grace).UTC().Truncate(time.Second)
	var errs []error
	for _, o := range old {
		if err := s.expire(ctx, o.ID, end); err != nil {
			errs = append(errs, fmt.Errorf("let the old key %s of %q end: %w", o.ID, o.Name, err))
		}
	}
	return secret, k, errors.Join(errs...)
}

// expire lets a key end no later than end. It writes only over what it has
// read: a key that somebody revokes in the same moment stays revoked.
func (s *Store) expire(ctx context.Context, id string, end time.Time) error {
	for {
		e, err := s.kv.Get(ctx, "key."+id)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		k, err := parse(id, e.Value())
		if err != nil {
			return err
		}
		if !k.Expires.IsZero() && !k.Expires.After(end) {
			return nil
		}
		k.Expires = end
		b, err := json.Marshal(k)
		if err != nil {
			return err
		}
		if _, err := s.kv.Update(ctx, "key."+id, b, e.Revision()); !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return err
		}
	}
}

// Revoke ends every key of that name, or the one key with that id, at once.
// It returns how many there were.
func (s *Store) Revoke(ctx context.Context, nameOrID string) (int, error) {
	keys, err := s.named(ctx, nameOrID)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, kind := range []string{"key.", "used."} { // first what matters
		for _, k := range keys {
			if err := s.kv.Delete(ctx, kind+k.ID); err != nil {
				errs = append(errs, fmt.Errorf("revoke key %s of %q: delete %s%s: %w", k.ID, k.Name, kind, k.ID, err))
			}
		}
	}
	if len(errs) > 0 {
		return 0, errors.Join(errs...)
	}
	return len(keys), nil
}

func (s *Store) named(ctx context.Context, nameOrID string) ([]Info, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []Info
	for _, k := range all {
		if k.Name == nameOrID || k.ID == nameOrID {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("key %q: %w", nameOrID, ErrNotFound)
	}
	return out, nil
}

// resyncEvery bounds how long a key may stay valid after a revocation that
// the watcher did not hear of.
const resyncEvery = time.Minute

// retryEvery is how long Watch waits after NATS refused it a watcher.
const retryEvery = 250 * time.Millisecond

// errResync: the watcher was left in order to start over.
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
// once a minute, and takes the keys away that are no longer in it.
func (s *Store) Watch(ctx context.Context, ring *auth.Ring, log *slog.Logger, ready func()) error {
	reconnected := s.nc.StatusChanged(nats.CONNECTED)
	defer s.nc.RemoveStatusListener(reconnected)
	f := follower{ring: ring, log: log, known: map[string]uint64{}, ready: sync.OnceFunc(ready)}
	for {
		err := f.follow(ctx, s.kv, reconnected)
		switch {
		case ctx.Err() != nil:
			return nil
		case s.nc.IsClosed():
			return fmt.Errorf("watch keys: %w", nats.ErrConnectionClosed)
		case errors.Is(err, errResync):
			continue
		}
		if !f.failing {
			f.failing = true
			log.Warn("keys cannot be watched; trying again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// follower is the state of one Watch. Its goroutine owns it.
type follower struct {
	ring    *auth.Ring
	log     *slog.Logger
	known   map[string]uint64 // revision of each entry that was taken in, also of damaged ones
	ready   func()
	failing bool // the log has it
}

// follow reads the bucket from the start and goes on with what changes, until
// it is time to start over or the watcher breaks.
func (f *follower) follow(ctx context.Context, kv jetstream.KeyValue, reconnected <-chan nats.Status) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a goroutine that nats.go starts per watcher
	w, err := kv.Watch(ctx, "key.*")
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
				if f.take(e) && stored != nil {
					stored[e.Key()] = true
				}
			case stored != nil:
				for key := range f.known {
					if !stored[key] {
						f.drop(key)
					}
				}
				stored = nil
				if f.failing {
					f.failing = false
					f.log.Info("keys are watched again")
				}
				f.ready()
			}
		}
	}
}

// take brings one entry into the ring, and reports whether it exists.
func (f *follower) take(e jetstream.KeyValueEntry) bool {
	if e.Operation() != jetstream.KeyValuePut {
		f.drop(e.Key())
		return false
	}
	if f.known[e.Key()] == e.Revision() {
		return true
	}
	f.known[e.Key()] = e.Revision()
	id := strings.TrimPrefix(e.Key(), "key.")
	k, err := parse(id, e.Value())
	if err == nil {
		err = f.ring.Put(k)
	}
	if err != nil {
		f.ring.Delete(id) // a damaged entry opens no door
		f.log.Error("API key ignored", "key", id, "err", err)
		return true
	}
	f.log.Info("API key known", "key", id, "name", k.Name, "expires", k.Expires)
	return true
}

// drop takes away a key that Watch put into the ring.
func (f *follower) drop(key string) {
	if _, ok := f.known[key]; !ok {
		return // revoked before this process began
	}
	delete(f.known, key)
	id := strings.TrimPrefix(key, "key.")
	f.ring.Delete(id)
	f.log.Info("API key revoked", "key", id)
}

// touchEvery is how exact "last used" is: one write per key and process a minute.
const touchEvery = time.Minute

// Uses collects when keys were used and writes it down once a minute. Touch
// is called on the hot path and only notes; Run writes.
type Uses struct {
	store *Store

	mu    sync.Mutex
	dirty map[string]time.Time // guarded by mu
}

// NewUses makes a collector for the store.
func NewUses(s *Store) *Uses { return &Uses{store: s, dirty: map[string]time.Time{}} }

// Touch notes that the key was used now.
func (u *Uses) Touch(id string, now time.Time) {
	u.mu.Lock()
	u.dirty[id] = now
	u.mu.Unlock()
}

// Run writes what was noted until ctx ends, and once more then.
func (u *Uses) Run(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(touchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			u.Flush(last, log)
			cancel()
			return
		case <-tick.C:
			u.Flush(ctx, log)
		}
	}
}

// Flush writes what was noted. What cannot be written is noted again next
// time the key is used: it is a convenience, not a promise.
func (u *Uses) Flush(ctx context.Context, log *slog.Logger) {
	u.mu.Lock()
	dirty := u.dirty
	u.dirty = map[string]time.Time{}
	u.mu.Unlock()
	for id, t := range dirty {
		if _, err := u.store.kv.Put(ctx, "used."+id, []byte(t.UTC().Format(time.RFC3339))); err != nil {
			log.Debug("last use of a key not written", "key", id, "err", err)
			return
		}
	}
}
