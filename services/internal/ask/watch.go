package ask

import (
	"sync"
	"time"
)

// watchFor is how long a Watch stays on after somebody asked.
const watchFor = time.Minute

// Watch has something kept only while somebody asks about it: Switch is called with true at the first question, and
// with false a minute after the last one, or when Off is called. It must not call the Watch. Safe for concurrent use.
type Watch struct {
	Switch func(on bool) // fixed before the first use

	mu    sync.Mutex
	since time.Time   // guarded by mu; when it was switched on; zero: it is off
	until time.Time   // guarded by mu; when it is switched off, unless somebody asks
	timer *time.Timer // guarded by mu; calls expire
}

// On notes a question, and returns since when it has been on.
func (w *Watch) On() (since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = time.Now().Add(watchFor)
	if w.since.IsZero() {
		w.since = time.Now().UTC().Truncate(time.Millisecond)
		w.timer = time.AfterFunc(watchFor, w.expire)
		w.Switch(true)
	}
	return w.since
}

// expire switches it off, unless somebody has asked since the timer was set.
func (w *Watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch left := time.Until(w.until); {
	case w.since.IsZero(): // Off was quicker
	case left > 0:
		w.timer.Reset(left)
	default:
		w.since = time.Time{}
		w.Switch(false)
	}
}

// Off switches it off at once.
func (w *Watch) Off() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		w.timer.Stop()
		w.since = time.Time{}
		w.Switch(false)
	}
}
