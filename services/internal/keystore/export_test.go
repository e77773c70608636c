package keystore

import (
	"context"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
)

// AfterGet returns a store that calls f after each entry that it has read one
// by one, and before it does anything with it.
func (s *Store) AfterGet(f func()) *Store { return &Store{kv: nosy{s.kv, f}, nc: s.nc} }

type nosy struct {
	jetstream.KeyValue
	after func()
}

func (n nosy) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	e, err := n.KeyValue.Get(ctx, key)
	n.after()
	return e, err
}

// Overlooking returns a store whose watchers, but for the first, end what is
// stored without this entry, as they do when it is written in that moment.
// gets counts how often it is asked for the entry.
func (s *Store) Overlooking(key string, gets *atomic.Int32) *Store {
	return &Store{kv: &overlooking{KeyValue: s.kv, key: key, gets: gets}, nc: s.nc}
}

type overlooking struct {
	jetstream.KeyValue
	key      string
	watchers int
	gets     *atomic.Int32
}

func (o *overlooking) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	o.gets.Add(1)
	return o.KeyValue.Get(ctx, key)
}

func (o *overlooking) Watch(ctx context.Context, keys string, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher,
	error) {
	w, err := o.KeyValue.Watch(ctx, keys, opts...)
	if o.watchers++; o.watchers == 1 || err != nil {
		return w, err
	}
	short := watcher{w, make(chan jetstream.KeyValueEntry, 100)}
	for e := range w.Updates() {
		if e == nil || e.Key() != o.key {
			short.updates <- e
		}
		if e == nil {
			break
		}
	}
	return short, nil
}

type watcher struct {
	jetstream.KeyWatcher
	updates chan jetstream.KeyValueEntry // never closed
}

func (w watcher) Updates() <-chan jetstream.KeyValueEntry { return w.updates }

// Late returns a store whose creations succeed, and whose answers come too late.
func (s *Store) Late() *Store { return &Store{kv: late{s.kv}, nc: s.nc} }

type late struct{ jetstream.KeyValue }

func (l late) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	if _, err := l.KeyValue.Create(ctx, key, value, opts...); err != nil {
		return 0, err
	}
	return 0, context.DeadlineExceeded
}
