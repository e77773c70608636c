package keystore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
)

func TestUses(t *testing.T) {
	s := natstest.Start(t)
	one, _ := open(t, s)
	two, _ := open(t, s)
	_, k := add(t, one, "shop")
	used := func() time.Time {
		t.Helper()
		keys := list(t, two)
		if len(keys) != 1 {
			t.Fatalf("got %+v", keys)
		}
		return keys[0].LastUsed
	}
	uses := keystore.NewUses(one)
	uses.Flush(t.Context(), quiet) // nothing to write
	if !used().IsZero() {
		t.Errorf("used %s", used())
	}
	for i := range 3 {
		uses.Touch(k.ID, noon.Add(time.Duration(i)*time.Second))
	}
	uses.Touch("ffffffff", noon) // revoked meanwhile
	if !used().IsZero() {
		t.Error("written at once: that is the hot path")
	}
	uses.Flush(t.Context(), quiet)
	if want := noon.Add(2 * time.Second); !used().Equal(want) {
		t.Errorf("got %s, want %s", used(), want)
	}
	// Run writes the rest when it ends.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { uses.Run(ctx, quiet); close(done) }()
	uses.Touch(k.ID, noon.Add(time.Hour))
	cancel()
	<-done
	if want := noon.Add(time.Hour); !used().Equal(want) {
		t.Errorf("at the end: got %s, want %s", used(), want)
	}
	// A use that was noted before a revocation does not bring the key back.
	uses.Touch(k.ID, noon)
	if _, err := two.Revoke(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	uses.Flush(t.Context(), quiet)
	if keys := list(t, two); len(keys) != 0 {
		t.Errorf("got %+v", keys)
	}
}

func TestUsesWhileNATSIsAway(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	store, _ := openOn(t, nc)
	uses := keystore.NewUses(store)
	s.Stop()
	natstest.Eventually(t, 30*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
	uses.Touch("ffffffff", noon)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	uses.Flush(ctx, quiet)
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestUsesAreSafeForConcurrentUse(t *testing.T) {
	store, _ := open(t, natstest.Start(t))
	uses := keystore.NewUses(store)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 1000 {
				uses.Touch(fmt.Sprint(i), noon)
			}
		})
	}
	for range 5 {
		uses.Flush(t.Context(), quiet)
	}
	wg.Wait()
}
