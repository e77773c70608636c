package gateway

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/herald-push/herald/services/internal/httpx"
)

// budget is the memory, in bytes, that all replays from the stream may hold at
// once. Who finds no room waits in line; one address gets at most a quarter, and
// those behind it in line do not wait for it. Safe for concurrent use.
type budget struct {
	each int // fixed; the most that one address may hold

	mu   sync.Mutex
	free int                  // guarded by mu
	held map[netip.Prefix]int // guarded by mu
	line []*waiter            // guarded by mu
}

// waiter is one replay in line.
type waiter struct {
	group netip.Prefix
	bytes int
	turn  chan struct{} // closed when it has its bytes
}

func newBudget(bytes int) *budget {
	return &budget{each: bytes / 4, free: bytes, held: map[netip.Prefix]int{}}
}

// acquire waits for bytes, at most a quarter of the budget, until ctx ends, which
// is the error. release returns them.
func (b *budget) acquire(ctx context.Context, ip netip.Addr, bytes int) (release func(), err error) {
	w := &waiter{httpx.AddressGroup(ip), bytes, make(chan struct{})}
	b.mu.Lock()
	b.line = append(b.line, w)
	b.grant()
	b.mu.Unlock()
	release = sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if i := slices.Index(b.line, w); i >= 0 {
			b.line = slices.Delete(b.line, i, i+1)
			b.grant() // it may have kept others waiting
			return
		}
		b.free += bytes
		if b.held[w.group] -= bytes; b.held[w.group] == 0 {
			delete(b.held, w.group)
		}
		b.grant()
	})
	select {
	case <-w.turn:
		return release, nil
	case <-ctx.Done():
		release()
		return nil, ctx.Err()
	}
}

// grant gives those in line what there is. mu is held.
func (b *budget) grant() {
	full := false
	b.line = slices.DeleteFunc(b.line, func(w *waiter) bool {
		if full || b.held[w.group]+w.bytes > b.each {
			return false
		}
		if full = w.bytes > b.free; full { // smaller ones behind it would keep it waiting for ever
			return false
		}
		b.free -= w.bytes
		b.held[w.group] += w.bytes
		close(w.turn)
		return true
	})
}
