// Package kvcache reads a JetStream KV bucket through a small memory.
//
// A value that was read less than Fresh ago is answered from memory; an older one is read again. While NATS does not
// answer, the value of before is answered for Stale, so that the console can still say what is wrong. Changes by this
// process count at once, those by another one after Fresh.
package kvcache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// Fresh is how long a value is answered without asking NATS.
	Fresh = 2 * time.Second
	// Stale is how long a value is answered that NATS cannot confirm.
	Stale = 10 * time.Minute
	// maxEntries bounds the memory. Beyond it an arbitrary value is forgotten, and read again when it is needed.
	maxEntries = 2000
	// readsAtOnce bounds the questions to NATS that strangers can cause.
	readsAtOnce = 16
	// askTimeout bounds one of them.
	askTimeout = 2 * time.Second
)

// ErrAway: there is no connection to NATS.
var ErrAway = errors.New("NATS is not connected")

// Cache is the memory before a bucket. Safe for concurrent use.
type Cache struct {
	kv     jetstream.KeyValue
	near   func() bool   // whether there is a connection to NATS
	places chan struct{} // has a place for each read that may run; never closed
	failed func()        // see OnFailure; nil: nobody wants to know

	mu      sync.Mutex
	entries map[string]entry // guarded by mu
}

type entry struct {
	value    []byte // nobody changes it
	revision uint64
	read     time.Time
}

// New makes the memory of a bucket. connected reports whether there is a connection to NATS: without one nothing waits
// for an answer.
func New(kv jetstream.KeyValue, connected func() bool) *Cache {
	return &Cache{kv: kv, near: connected, places: make(chan struct{}, readsAtOnce), entries: map[string]entry{}}
}

// OnFailure has f called, which must not block, after each question that NATS refused or did not answer though
// there is a connection. It is called before the cache is used.
func (c *Cache) OnFailure(f func()) { c.failed = f }

// Has reports whether the value is in memory, so that Get asks NATS rarely or not.
func (c *Cache) Has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.entries[key]
	return ok
}

// Get returns the value and its revision; found is false where there is none. The caller must not change the value.
func (c *Cache) Get(ctx context.Context, key string) (value []byte, revision uint64, found bool, err error) {
	c.mu.Lock()
	known, ok := c.entries[key]
	c.mu.Unlock()
	if ok && time.Since(known.read) < Fresh {
		return known.value, known.revision, true, nil
	}
	e, err := c.ask(ctx, key)
	switch {
	case err == nil:
		c.put(key, e.Value(), e.Revision())
		return e.Value(), e.Revision(), true, nil
	case errors.Is(err, jetstream.ErrKeyNotFound):
		c.Forget(key)
		return nil, 0, false, nil
	case ok && time.Since(known.read) < Stale:
		return known.value, known.revision, true, nil
	}
	return nil, 0, false, err
}

func (c *Cache) ask(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if !c.near() {
		return nil, ErrAway
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	e, err := c.kv.Get(ctx, key)
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) && c.failed != nil {
		c.failed()
	}
	return e, err
}

// Put stores a value over whatever there is.
func (c *Cache) Put(ctx context.Context, key string, value []byte) error {
	revision, err := c.kv.Put(ctx, key, value)
	if err == nil {
		c.put(key, value, revision)
	}
	return err
}

// Create stores a value where there is none: else the error is jetstream.ErrKeyExists.
func (c *Cache) Create(ctx context.Context, key string, value []byte) error {
	revision, err := c.kv.Create(ctx, key, value)
	if err == nil {
		c.put(key, value, revision)
	}
	return err
}

// Update stores a value over this revision: where there is another one meanwhile, the error is
// jetstream.ErrKeyRevisionMismatch.
func (c *Cache) Update(ctx context.Context, key string, value []byte, revision uint64) error {
	revision, err := c.kv.Update(ctx, key, value, revision)
	if err != nil {
		c.Forget(key)
		return err
	}
	c.put(key, value, revision)
	return nil
}

// Delete removes a value.
func (c *Cache) Delete(ctx context.Context, key string) error {
	err := c.kv.Delete(ctx, key)
	c.Forget(key)
	return err
}

// Forget makes the next Get ask NATS.
func (c *Cache) Forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}

func (c *Cache) put(key string, value []byte, revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; !ok && len(c.entries) >= maxEntries {
		for other := range c.entries {
			delete(c.entries, other)
			break
		}
	}
	if known, ok := c.entries[key]; ok && known.revision > revision {
		return // a slow read must not undo a newer write
	}
	c.entries[key] = entry{value, revision, time.Now()}
}
