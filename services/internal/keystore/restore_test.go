package keystore_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/pusher"
)

// A bucket that somebody deletes is made anew by whoever may, with the keys that were valid and no other: nobody who
// watches loses one meanwhile, and none that was revoked comes back.
func TestDeletedBucketComesBack(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	store, js := openOn(t, nc)
	kept, k := add(t, store, "kept")
	gone, _ := add(t, store, "gone")
	if _, err := store.Revoke(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	var out logtest.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	rings := []*auth.Ring{watch(t, store.Remaking(js, 1), log), watch(t, store, log)}
	later, _ := add(t, store, "later")
	natstest.Eventually(t, time.Minute, "both know the key", func() bool {
		return valid(rings[0], later) && valid(rings[1], later)
	})
	if err := js.DeleteKeyValue(t.Context(), keystore.Bucket); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, time.Minute, "the bucket is there again with the keys", func() bool {
		list, err := store.List(t.Context())
		return err == nil && len(list) == 2 && list[0].ID == k.ID && !list[0].Damaged
	})
	if err := nc.ForceReconnect(); err != nil { // both read it anew
		t.Fatal(err)
	}
	natstest.Eventually(t, time.Minute, "the connection is back", nc.IsConnected)
	third, _ := add(t, store, "third")
	for i, ring := range rings {
		natstest.Eventually(t, time.Minute, "the bucket is followed again", func() bool { return valid(ring, third) })
		if !valid(ring, kept) || !valid(ring, later) || valid(ring, gone) {
			t.Errorf("ring %d: got %v %v %v", i, valid(ring, kept), valid(ring, later), valid(ring, gone))
		}
	}
	if said := out.String(); strings.Contains(said, "API key revoked") ||
		!strings.Contains(said, "somebody deleted a bucket") || !strings.Contains(said, keystore.Bucket) {
		t.Errorf("the log: got %s", said)
	}
}

// The same for apps.
func TestDeletedBucketOfAppsComesBack(t *testing.T) {
	s := natstest.Start(t)
	_, js := openOn(t, s.Connect())
	store, err := keystore.MakeApps(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	app := pusher.App{ID: "1234", Name: "till", Prefix: "pusher.1234", Keys: []pusher.Key{pusher.NewKey(noon)},
		Created: noon}
	if err := store.Add(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	var apps pusher.Apps
	watchApps(t, store.Remaking(js, 1), &apps)
	if err := js.DeleteKeyValue(t.Context(), keystore.AppBucket); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, time.Minute, "the app is stored again", func() bool {
		list, err := store.List(t.Context())
		return err == nil && len(list) == 1 && list[0].Keys[0] == app.Keys[0]
	})
}

// watchApps keeps apps equal to the store until the test ends, and returns when they are.
func watchApps(t *testing.T, store *keystore.AppStore, apps *pusher.Apps) {
	t.Helper()
	loaded, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends with ctx
		ended <- store.Watch(ctx, apps, slog.New(slog.DiscardHandler), func() { close(loaded) }, func(string) {})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-loaded
}
