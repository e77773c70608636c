package gateway

import (
	"context"
	"runtime/debug"
	"time"
)

// A handshake leaves some 20 KB of garbage behind. When thousands come at once,
// as after the end of another gateway, the heap grows by that for each of
// those under way, and the runtime gives it back over minutes. One collection
// when the rush is over does so at once: 10,000 idle clients that came together
// take up 7 MB then, and 9 MB without.
const (
	// rushPace is from how many newcomers a second on it is one.
	rushPace = 100
	// rushClients is how many it must have brought to be worth a collection.
	rushClients = 1000
	// rushOver is how long it must have been over.
	rushOver = 2 * time.Second
)

// returnMemory gives memory back to the system after each rush of clients,
// until ctx ends.
func (s *Service) returnMemory(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	came, since, before := 0, time.Now(), s.conns.Opened()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			opened := s.conns.Opened()
			if opened-before >= rushPace {
				came, since = came+opened-before, now
			}
			before = opened
			if came >= rushClients && now.Sub(since) >= rushOver {
				debug.FreeOSMemory()
				s.log.Debug("memory given back after a rush of clients", "clients", came, "took", time.Since(now))
				came = 0
			}
		}
	}
}
