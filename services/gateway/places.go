package gateway

import (
	"context"
	"sync"
	"time"
)

// placeParts is in how many turns all clients are told how far they are, so
// that no moment belongs to that alone.
const placeParts = 25

// placeEvery is how often each client is: often enough that it does not grow
// old, on a channel where nothing happens, in a stream that keeps little.
func (s *Service) placeEvery() time.Duration {
	every := s.cfg.Heartbeat
	if age := time.Duration(s.feed.maxAge.Load()); age > 0 {
		every = min(every, age/4)
	}
	return max(every, time.Second)
}

// sendPlaces tells clients how far they are until ctx ends.
func (s *Service) sendPlaces(ctx context.Context) {
	for part := 0; ; part = (part + 1) % placeParts {
		t := time.NewTimer(s.placeEvery() / placeParts)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			s.hub.Places(part, placeParts, nil)
		}
	}
}

// sendPlacesNow tells all clients, and returns when it has.
func (s *Service) sendPlacesNow() {
	var told sync.WaitGroup
	for part := range placeParts {
		told.Add(s.hub.Shards())
		s.hub.Places(part, placeParts, told.Done)
	}
	told.Wait()
}
