package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
)

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(8)
		one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		must := func(ip netip.Addr, bytes int) func() {
			t.Helper()
			release, err := b.acquire(t.Context(), ip, bytes)
			if err != nil {
				t.Fatal(err)
			}
			return release
		}
		first := must(one, 2) // a quarter
		var order []string
		var wg sync.WaitGroup
		wg.Go(func() {
			release := must(one, 1)
			order = append(order, "the same address, when it has room")
			release()
		})
		synctest.Wait()
		rest := []func(){must(other, 2), must(netip.MustParseAddr("192.0.2.3"), 2),
			must(netip.MustParseAddr("192.0.2.4"), 2)}
		if b.free != 0 {
			t.Errorf("%d are free, want none", b.free)
		}
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := b.acquire(ctx, netip.MustParseAddr("192.0.2.5"), 2); !errors.Is(err, context.Canceled) {
				t.Errorf("who gives up: got %v", err)
			}
		})
		synctest.Wait()
		if len(b.line) != 2 || len(order) != 0 {
			t.Errorf("%d wait, want 2; %v had a turn", len(b.line), order)
		}
		cancel()
		first()
		first() // once
		wg.Wait()
		for _, release := range rest {
			release()
		}
		if b.free != 8 || len(b.held) != 0 || len(b.line) != 0 || len(order) != 1 {
			t.Errorf("at the end: %d free, %v held, %d wait, turns %v", b.free, b.held, len(b.line), order)
		}
	})
}

// Clients that come back and do not read hold no more memory together than
// SECURITY.md says, whether they ask for everything or for the newest of many.
func TestReplaysOfClientsThatDoNotRead(t *testing.T) {
	b := newBroker(t)
	data := `"` + strings.Repeat("x", 60_000) + `"`
	var last uint64
	for i := range 400 { // 24 MB
		last = b.publish(fmt.Sprintf("c.%d", i%200), data)
	}
	for _, query := range []string{channels("c.*") + "&since=all", channels("c.*") + "&since=last"} {
		t.Run(query, func(t *testing.T) {
			const clients = 120
			g := b.gateway(func(c *Config) { c.RecentMessages, c.MaxQueueBytes = 1, 1<<20 })
			g.connect("")
			g.reached(last)
			before := inUse()
			for range clients {
				g.dialSmall(query)
			}
			natstest.Eventually(t, patience, "all have come", func() bool { return g.conns.Len() >= clients })
			most := 0
			for range 20 { // while they are served as far as they read
				time.Sleep(50 * time.Millisecond)
				most = max(most, inUse()-before)
			}
			t.Logf("%d MiB for %d clients", most>>20, clients)
			if limit := clients*(256<<10) + 80<<20; most > limit {
				t.Errorf("%d clients that do not read hold %d bytes, want at most %d", clients, most, limit)
			}
		})
	}
}
