package gateway

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
)

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(8)
		one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		must := func(ip netip.Addr, bytes int) func() {
			t.Helper()
			give, err := b.take(t.Context(), ip, bytes)
			if err != nil {
				t.Fatal(err)
			}
			return give
		}
		first := must(one, 2) // a quarter
		var order []string
		var wg sync.WaitGroup
		wg.Go(func() {
			give := must(one, 1)
			order = append(order, "the same address, when it has room")
			give()
		})
		synctest.Wait()
		rest := []func(){must(other, 2), must(netip.MustParseAddr("192.0.2.3"), 2), must(netip.MustParseAddr("192.0.2.4"), 2)}
		if b.free != 0 {
			t.Errorf("%d are free, want none", b.free)
		}
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := b.take(ctx, netip.MustParseAddr("192.0.2.5"), 2); !errors.Is(err, context.Canceled) {
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
		for _, give := range rest {
			give()
		}
		if b.free != 8 || len(b.held) != 0 || len(b.line) != 0 || len(order) != 1 {
			t.Errorf("at the end: %d free, %v held, %d wait, turns %v", b.free, b.held, len(b.line), order)
		}
	})
}
