package keystore_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
)

func TestRotate(t *testing.T) {
	s := natstest.Start(t)
	store, _ := open(t, s)
	ring := watch(t, store, quiet)
	o := keystore.Options{Channels: []string{"orders.>"}, Rate: 7}
	first, k1, err := store.Add(t.Context(), "shop", o, noon)
	if err != nil {
		t.Fatal(err)
	}
	later := noon.Add(time.Minute)
	second, k2, err := store.Rotate(t.Context(), "shop", time.Hour, later)
	if err != nil || k2.Name != "shop" || k2.Rate != 7 || len(k2.Channels) != 1 || k2.Channels[0] != "orders.>" ||
		!k2.Expires.IsZero() {
		t.Fatalf("got %+v, %v", k2, err)
	}
	natstest.Eventually(t, 30*time.Second, "both keys are known, and the old one ends", func() bool {
		g, err := ring.Authenticate(first, later)
		return err == nil && g.Expires.Equal(later.Add(time.Hour)) && valid(ring, second)
	})
	if _, err := ring.Authenticate(first, later.Add(time.Hour)); !errors.Is(err, auth.ErrExpired) {
		t.Errorf("after the grace: got %v", err)
	}
	// A second rotation must not give the first key more time.
	third, _, err := store.Rotate(t.Context(), "shop", 48*time.Hour, later)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list(t, store) {
		want := map[string]time.Time{k1.ID: later.Add(time.Hour), k2.ID: later.Add(48 * time.Hour)}[k.ID]
		if !k.Expires.Equal(want) {
			t.Errorf("%s expires %s, want %s", k.ID, k.Expires, want)
		}
	}
	// No grace: all but the newest end now. By ID it is the key's name that counts.
	fourth, k4, err := store.Rotate(t.Context(), k2.ID, 0, later)
	if err != nil || k4.Name != "shop" {
		t.Fatalf("got %+v, %v", k4, err)
	}
	natstest.Eventually(t, 30*time.Second, "that one key has ended", func() bool {
		_, err := ring.Authenticate(second, later)
		return errors.Is(err, auth.ErrExpired) && valid(ring, third) && valid(ring, fourth)
	})
	if _, _, err := store.Rotate(t.Context(), "shop", -time.Hour, later); err == nil ||
		!strings.Contains(err.Error(), "grace -1h0m0s: ") || len(list(t, store)) != 4 {
		t.Errorf("a grace that is over: got %v and %d keys, want it refused and no key more", err, len(list(t, store)))
	}
	if _, _, err := store.Rotate(t.Context(), "nobody", 0, later); !errors.Is(err, keystore.ErrNotFound) ||
		err.Error() != `key "nobody": no such key` {
		t.Errorf("got %v", err)
	}
}

// Whoever revokes a key while somebody rotates it has revoked it.
func TestRotateDoesNotBringARevokedKeyBack(t *testing.T) {
	s := natstest.Start(t)
	one, _ := open(t, s)
	two, _ := open(t, s)
	_, k := add(t, one, "shop")
	var between sync.Once
	rotating := one.AfterGet(func() {
		between.Do(func() {
			if n, err := two.Revoke(t.Context(), k.ID); err != nil || n != 1 {
				t.Errorf("revoked %d, %v", n, err)
			}
		})
	})
	_, k2, err := rotating.Rotate(t.Context(), "shop", time.Hour, noon)
	if err != nil {
		t.Error(err)
	}
	if keys := list(t, one); len(keys) != 1 || keys[0].ID != k2.ID {
		t.Errorf("got %+v, want the new key only", keys)
	}
}

// Two who rotate at once both succeed; the earlier end counts.
func TestRotateTwiceAtOnce(t *testing.T) {
	s := natstest.Start(t)
	one, _ := open(t, s)
	two, _ := open(t, s)
	_, k := add(t, one, "shop")
	var between sync.Once
	rotating := one.AfterGet(func() {
		between.Do(func() {
			if _, _, err := two.Rotate(t.Context(), k.ID, time.Minute, noon); err != nil {
				t.Error(err)
			}
		})
	})
	if _, _, err := rotating.Rotate(t.Context(), k.ID, time.Hour, noon); err != nil {
		t.Error(err)
	}
	for _, left := range list(t, one) {
		if left.ID == k.ID && !left.Expires.Equal(noon.Add(time.Minute)) {
			t.Errorf("the old key expires %s", left.Expires)
		}
	}
}

func TestRevoke(t *testing.T) {
	s := natstest.Start(t)
	one, _ := open(t, s)
	two, _ := open(t, s)
	ring := watch(t, one, quiet)
	a, _ := add(t, two, "shop")
	b, _, err := two.Rotate(t.Context(), "shop", time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	other, k := add(t, two, "blog")
	natstest.Eventually(t, 30*time.Second, "all are known",
		func() bool { return valid(ring, a) && valid(ring, b) && valid(ring, other) })
	if n, err := two.Revoke(t.Context(), "shop"); n != 2 || err != nil {
		t.Errorf("by name: got %d, %v", n, err)
	}
	natstest.Eventually(t, 30*time.Second, "both are gone", func() bool { return !valid(ring, a) && !valid(ring, b) })
	if !valid(ring, other) {
		t.Error("another key went too")
	}
	if n, err := two.Revoke(t.Context(), k.ID); n != 1 || err != nil {
		t.Errorf("by ID: got %d, %v", n, err)
	}
	natstest.Eventually(t, 30*time.Second, "it is gone", func() bool { return ring.Len() == 0 })
	if n, err := two.Revoke(t.Context(), "shop"); n != 0 || !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("again: got %d, %v", n, err)
	}
	if keys := list(t, one); len(keys) != 0 {
		t.Errorf("left: %+v", keys)
	}
	add(t, one, "shop") // the name is free again
}

func TestFirst(t *testing.T) {
	s := natstest.Start(t)
	const processes = 6
	var wg sync.WaitGroup
	var secrets atomic.Int32
	for range processes {
		store, _ := open(t, s)
		wg.Go(func() {
			secret, k, err := store.First(t.Context(), noon)
			if err != nil {
				t.Error(err)
			}
			if secret != "" {
				secrets.Add(1)
				if k.Name != "default" || len(k.Channels) != 1 || k.Channels[0] != ">" {
					t.Errorf("got %+v", k)
				}
			}
		})
	}
	wg.Wait()
	store, _ := open(t, s)
	if keys := list(t, store); secrets.Load() != 1 || len(keys) != 1 {
		t.Errorf("%d secrets, %d keys", secrets.Load(), len(keys))
	}
	// Who revokes the last key wants none, also after the next restart.
	if _, err := store.Revoke(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	if secret, _, err := store.First(t.Context(), noon); secret != "" || err != nil {
		t.Errorf("a second first key: %v", err)
	}
}

func TestFirstIsNotNeededBesideOthers(t *testing.T) {
	store, _ := open(t, natstest.Start(t))
	add(t, store, "shop")
	if secret, _, err := store.First(t.Context(), noon); secret != "" || err != nil {
		t.Errorf("got a key, %v", err)
	}
}

// A process that claims the first key and cannot make it must not leave the
// others without one for ever.
func TestFirstThatFailsCanBeTriedAgain(t *testing.T) {
	s := natstest.Start(t)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	// enough for the claim, with its header, but not for a key
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: keystore.Bucket, MaxValueSize: 150})
	if err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Make(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	if secret, _, err := store.First(t.Context(), noon); err == nil || secret != "" ||
		!strings.HasPrefix(err.Error(), `store key "default": `) {
		t.Fatalf("got %q, %v", secret, err)
	}
	if _, err := kv.Get(t.Context(), "first"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("the claim remains: %v", err)
	}
	if _, err := js.UpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: keystore.Bucket}); err != nil {
		t.Fatal(err)
	}
	if secret, _, err := store.First(t.Context(), noon); err != nil || secret == "" {
		t.Errorf("second try: got %q, %v", secret, err)
	}
}
