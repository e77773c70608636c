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
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/bucket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is the KV bucket's name.
const Bucket = "herald_keys"

// Errors that people meet at the command line and in the console.
var (
	ErrNotFound = errors.New("no such key")
	ErrExists   = errors.New("there is a key with that name already; rotate it, or choose another name")
	ErrReserved = errors.New("that is the name of the key in HERALD_API_KEY; choose another one")
	ErrNoBucket = errors.New("there are no keys yet: ingest makes their bucket when it first starts")
	ErrInvalid  = errors.New("not valid") // is wrapped by what a person gave and may not be
)

// Refused reports whether an error says that nothing was changed, because of what was asked for.
func Refused(err error) bool {
	for _, refusal := range []error{ErrNotFound, ErrExists, ErrReserved, ErrInvalid, ErrNoApp, ErrAppExists} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// invalid is an error about what a person gave; it is ErrInvalid, and reads as the error does.
type invalid struct{ error }

func (e invalid) Unwrap() []error { return []error{e.error, ErrInvalid} }

// Store reads and writes the bucket. Safe for concurrent use.
type Store struct {
	kv jetstream.KeyValue
	nc *nats.Conn // whose reconnects Watch looks for; the caller owns it
	// remake makes the bucket anew where somebody deletes it while Watch runs; nil: that is another process's.
	remake func(context.Context) error
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
	May      []auth.Scope // empty: publish only
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
		return "", auth.Key{}, invalid{fmt.Errorf("key rate %v: want messages a second, or 0 for no limit", o.Rate)}
	}
	if name == EnvName {
		return "", auth.Key{}, fmt.Errorf("key %q: %w", name, ErrReserved)
	}
	may := o.May
	if len(may) == 0 {
		may = []auth.Scope{auth.Publish}
	}
	secret := auth.NewSecret()
	k, err := auth.NewKey(secret, name, o.Channels, may, now)
	if err != nil {
		return "", auth.Key{}, invalid{err}
	}
	k.Rate, k.Expires = o.Rate, o.Expires
	b, err := json.Marshal(k)
	if err == nil {
		err = bucket.Create(ctx, s.kv, "key."+k.ID, b)
	}
	if err != nil {
		return "", auth.Key{}, fmt.Errorf("store key %q: %w", k.Name, err)
	}
	return secret, k, nil
}

// First makes the very first key, which may do everything, once for all processes that start
// together: only one of them gets a secret to print, the others an empty one.
func (s *Store) First(ctx context.Context, now time.Time) (secret string, k auth.Key, err error) {
	keys, err := s.List(ctx)
	if err != nil || len(keys) > 0 {
		return "", auth.Key{}, err
	}
	claim := now.UTC().Format(time.RFC3339) + " " + rand.Text()
	if err := bucket.Create(ctx, s.kv, "first", []byte(claim)); err != nil {
		if errors.Is(err, jetstream.ErrKeyExists) {
			return "", auth.Key{}, nil
		}
		return "", auth.Key{}, fmt.Errorf("claim the first key: %w", err)
	}
	secret, k, err = s.create(ctx, "default", Options{Channels: []string{">"}, May: auth.Scopes}, now)
	if err != nil { // let the next process try; this one may have failed because its context ended
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		err = errors.Join(err, s.kv.Delete(undo, "first"))
	}
	return secret, k, err
}

// List returns every key, by name and age.
func (s *Store) List(ctx context.Context) ([]Info, error) {
	entries, err := bucket.Entries(ctx, s.kv)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return infos(entries), nil
}

// infos are the keys among the entries, sorted.
func infos(entries map[string]jetstream.KeyValueEntry) []Info {
	byID := map[string]*Info{}
	used := map[string]time.Time{}
	for _, e := range entries {
		if e.Operation() != jetstream.KeyValuePut {
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
	return out
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

// Rotate makes a new key with the name, channels, scopes and rate of the newest one
// of that name, and lets the old ones end after grace. If err is not nil but
// secret is not empty, the new key works, and an old one may not end.
func (s *Store) Rotate(ctx context.Context, name string, grace time.Duration, now time.Time) (secret string, k auth.Key,
	err error) {
	if err := checkGrace(grace); err != nil {
		return "", auth.Key{}, err
	}
	old, err := s.named(ctx, name)
	if err != nil {
		return "", auth.Key{}, err
	}
	newest := old[len(old)-1]
	may := newest.May
	if may == nil { // from before there were scopes: what it could
		may = auth.Scopes
	}
	secret, k, err = s.create(ctx, newest.Name, Options{Channels: newest.Channels, May: may, Rate: newest.Rate}, now)
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

// checkGrace reports whether a key that is rotated may end after this time.
func checkGrace(grace time.Duration) error {
	if grace < 0 {
		return invalid{fmt.Errorf("grace %s: a key cannot have ended before it is rotated; want 0s or more", grace)}
	}
	return nil
}
