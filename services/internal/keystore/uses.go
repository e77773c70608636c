package keystore

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

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
