package pusher

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Apps are the apps that there are now. Safe for concurrent use; the zero value has
// none.
type Apps struct {
	mu    sync.RWMutex
	byID  map[string]*Entry // guarded by mu
	byKey map[string]*Entry // guarded by mu
}

// Entry is an app among the others. Nobody changes it.
type Entry struct {
	App
	Limit *rate.Limiter // of what it publishes; nil: none
}

// Put adds an app, or replaces the one with its id. One that Check refuses, or that
// has a key or channels of another app, is not added: of two that somebody added in
// the same moment, the first counts.
func (s *Apps) Put(a App) error {
	if err := a.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range a.Keys {
		if other := s.byKey[k.Key]; other != nil && other.ID != a.ID {
			return fmt.Errorf("app %s: the key %s is that of app %s", a.ID, k.Key, other.ID)
		}
	}
	for _, other := range s.byID {
		if other.ID != a.ID && Overlap(other.Prefix, a.Prefix) {
			return fmt.Errorf("app %s: channels below %s are those of app %s", a.ID, a.Prefix, other.ID)
		}
	}
	e := &Entry{App: a}
	if a.Rate > 0 {
		e.Limit = rate.NewLimiter(rate.Limit(a.Rate), max(1, int(min(a.Rate, math.MaxInt32))))
	}
	if s.byID == nil {
		s.byID, s.byKey = map[string]*Entry{}, map[string]*Entry{}
	}
	if old := s.byID[a.ID]; old != nil {
		if old.Rate == a.Rate {
			e.Limit = old.Limit // an update of something else does not refill the bucket
		}
		s.forget(old)
	}
	s.byID[a.ID] = e
	for _, k := range a.Keys {
		s.byKey[k.Key] = e
	}
	return nil
}

// Delete revokes an app.
func (s *Apps) Delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byID[id]; old != nil {
		s.forget(old)
		delete(s.byID, id)
	}
}

// forget removes the keys of an app. mu is held.
func (s *Apps) forget(e *Entry) {
	for _, k := range e.Keys {
		delete(s.byKey, k.Key)
	}
}

// ByID finds an app; nil: there is none.
func (s *Apps) ByID(id string) *Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}

// ByKey finds the app with a key that is valid now; nil: there is none.
func (s *Apps) ByKey(key string, now time.Time) *Entry {
	s.mu.RLock()
	e := s.byKey[key]
	s.mu.RUnlock()
	if e == nil || !slices.ContainsFunc(e.Keys, func(k Key) bool { return k.Key == key && k.Valid(now) }) {
		return nil
	}
	return e
}

// Overlap reports whether one prefix is the other, or below it: two apps with such
// prefixes would have the same channels.
func Overlap(x, y string) bool {
	return x == y || strings.HasPrefix(x, y+".") || strings.HasPrefix(y, x+".")
}
