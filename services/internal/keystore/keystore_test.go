package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
)

func TestAddAndList(t *testing.T) {
	s := natstest.Start(t)
	one, _ := open(t, s)
	two, _ := open(t, s)
	if keys := list(t, two); len(keys) != 0 {
		t.Errorf("a new bucket has %+v", keys)
	}
	expires := noon.Add(time.Hour)
	secret, k, err := one.Add(t.Context(), "shop", keystore.Options{Channels: []string{"orders.>"}, Rate: 5,
		Expires: expires}, noon)
	if err != nil || secret == "" || k.Name != "shop" || k.Rate != 5 || !k.Expires.Equal(expires) {
		t.Fatalf("got %q, %+v, %v", secret, k, err)
	}
	add(t, two, "blog")
	keys := list(t, one)
	if len(keys) != 2 || keys[0].Name != "blog" || keys[1].ID != k.ID || keys[1].Digest != k.Digest ||
		!keys[1].Created.Equal(noon) || keys[1].Damaged || !keys[1].LastUsed.IsZero() {
		t.Errorf("got %+v", keys)
	}
	for _, c := range []struct {
		name string
		o    keystore.Options
		want string
	}{
		{"shop", all, `key "shop": there is a key with that name already; rotate it, or choose another name`},
		{"", all, "key name: invalid name: it is empty"},
		{"x", keystore.Options{}, "a key needs at least one channel pattern"},
		{"x", keystore.Options{Channels: []string{"a..b"}}, "invalid channel"},
		{"x", keystore.Options{Channels: []string{"a"}, Rate: -1},
			"key rate -1: want messages a second, or 0 for no limit"},
	} {
		secret, _, err := two.Add(t.Context(), c.name, c.o, noon)
		if err == nil || secret != "" || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q %+v: got %q, %v, want %q", c.name, c.o, secret, err, c.want)
		}
	}
	if _, _, err := two.Add(t.Context(), "shop", all, noon); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("got %v", err)
	}
	if n := len(list(t, two)); n != 2 {
		t.Errorf("refused keys were stored: %d", n)
	}
}

// The bucket holds digests: whoever reads it has no key.
func TestSecretsAreNotStored(t *testing.T) {
	s := natstest.Start(t)
	store, js := open(t, s)
	secret, _ := add(t, store, "shop")
	kv := bucket(t, js)
	names, err := kv.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if e, err := kv.Get(t.Context(), name); err != nil || strings.Contains(string(e.Value()), secret) {
			t.Errorf("%s: %v, %s", name, err, e.Value())
		}
	}
}

func TestManyKeys(t *testing.T) { // more than the watcher's channel holds
	s := natstest.Start(t)
	store, js := open(t, s)
	kv := bucket(t, js)
	const n = 600
	secrets := make([]string, n)
	for i := range secrets {
		secrets[i] = auth.NewSecret()
		k, err := auth.NewKey(secrets[i], fmt.Sprintf("k%03d", i), []string{">"}, auth.Scopes, noon)
		if err != nil {
			t.Fatal(err)
		}
		put(t, kv, "key."+k.ID, fmt.Sprintf(`{"id":%q,"name":%q,"digest":%q,"channels":[">"]}`, k.ID, k.Name, k.Digest))
	}
	if got := list(t, store); len(got) != n || got[0].Name != "k000" || got[n-1].Name != "k599" {
		t.Errorf("got %d", len(got))
	}
	ring := watch(t, store, quiet)
	for i, secret := range secrets {
		if !valid(ring, secret) {
			t.Fatalf("ready, but key %d is not known", i)
		}
	}
}

// A key that is written again and again is in every list.
func TestListDoesNotMissWhatIsBeingWritten(t *testing.T) {
	s := natstest.Start(t)
	store, js := open(t, s)
	_, k := add(t, store, "shop")
	add(t, store, "other")
	kv := bucket(t, js)
	e, err := kv.Get(t.Context(), "key."+k.ID)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := kv.Put(t.Context(), e.Key(), e.Value()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	defer writer.Wait()
	defer close(stop)
	reader, _ := open(t, s)
	for i := range 150 {
		if keys := list(t, reader); len(keys) != 2 {
			t.Fatalf("list %d lacks a key: %+v", i, keys)
		}
	}
}

// A damaged entry opens no door, spoils no list, and can be revoked.
func TestDamagedEntries(t *testing.T) {
	s := natstest.Start(t)
	store, js := open(t, s)
	kv := bucket(t, js)
	good, k := add(t, store, "good")
	var out logtest.Buffer
	ring := watch(t, store, slog.New(slog.NewTextHandler(&out, nil)))
	secret := auth.NewSecret()
	d, err := auth.NewKey(secret, "evil", []string{">"}, auth.Scopes, noon)
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string]string{
		"00000001": "",
		"00000002": "{",
		"00000003": "null",
		"00000004": `{"id":"00000004","name":"x","digest":"","channels":[">"]}`,
		"00000005": fmt.Sprintf(`{"id":"00000005","name":"x","digest":%q,"channels":[">"]}`, d.Digest),
		// revoking 00000006 would not revoke it
		"00000006": fmt.Sprintf(`{"id":%q,"name":"x","digest":%q,"channels":[">"]}`, d.ID, d.Digest),
		d.ID:       fmt.Sprintf(`{"id":%q,"name":"x\",\"channel\":\"y","digest":%q,"channels":[">"]}`, d.ID, d.Digest),
	}
	for id, value := range damaged {
		put(t, kv, "key."+id, value)
	}
	put(t, kv, "used."+k.ID, "yesterday")
	put(t, kv, "unknown.kind", "x")
	natstest.Eventually(t, 30*time.Second, "all are complained about", func() bool {
		return strings.Count(out.String(), "API key ignored") == len(damaged)
	})
	if valid(ring, secret) || !valid(ring, good) || ring.Len() != 1 {
		t.Errorf("damaged %v, good %v, %d keys", valid(ring, secret), valid(ring, good), ring.Len())
	}
	keys := list(t, store)
	if len(keys) != 1+len(damaged) {
		t.Fatalf("got %+v", keys)
	}
	for _, info := range keys {
		if _, is := damaged[info.ID]; info.Damaged != is || is && (info.Name != "" || info.Digest != "" ||
			info.Channels != nil) {
			t.Errorf("got %+v", info)
		}
	}
	put(t, kv, "key."+k.ID, "{") // a good one that breaks
	natstest.Eventually(t, 30*time.Second, "the door closes", func() bool { return !valid(ring, good) })
	for id := range damaged {
		if n, err := store.Revoke(t.Context(), id); n != 1 || err != nil {
			t.Errorf("revoke %s: %d, %v", id, n, err)
		}
	}
	if keys := list(t, store); len(keys) != 1 || keys[0].ID != k.ID {
		t.Errorf("left: %+v", keys)
	}
	if _, _, err := store.First(t.Context(), noon); err != nil { // counts as a key: damage must not make a new one
		t.Error(err)
	}
	if len(list(t, store)) != 1 {
		t.Error("a damaged bucket got a first key")
	}
}

func TestListFailsRatherThanBeingShort(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	store, _ := openOn(t, nc)
	add(t, store, "shop")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if keys, err := store.List(ctx); err == nil {
		t.Errorf("cancelled: got %+v", keys)
	}
	s.Stop()
	natstest.Eventually(t, 30*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if keys, err := store.List(ctx); err == nil || !strings.HasPrefix(err.Error(), "list keys: ") {
		t.Errorf("NATS is away: got %+v, %v", keys, err)
	}
	if _, _, err := store.First(ctx, noon); err == nil {
		t.Error("NATS is away, and there is a first key")
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("took %s", took)
	}
	nc.Close()
	if keys, err := store.List(t.Context()); err == nil {
		t.Errorf("closed: got %+v", keys)
	}
}

func TestBucketWithAHistory(t *testing.T) { // that an operator made
	js, err := jetstream.New(natstest.Start(t).Connect())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: keystore.Bucket,
		History: 5}); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Make(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := add(t, store, "shop")
	ring := watch(t, store, quiet)
	if _, _, err := store.Rotate(t.Context(), "shop", time.Hour, noon); err != nil {
		t.Fatal(err)
	}
	if n := len(list(t, store)); n != 2 {
		t.Errorf("got %d keys", n)
	}
	if n, err := store.Revoke(t.Context(), "shop"); n != 2 || err != nil {
		t.Errorf("revoked %d, %v", n, err)
	}
	natstest.Eventually(t, 30*time.Second, "the keys are gone",
		func() bool { return !valid(ring, first) && ring.Len() == 0 })
	if keys := list(t, store); len(keys) != 0 {
		t.Errorf("left: %+v", keys)
	}
}

func TestOpenFails(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Make(t.Context(), js, 3); err == nil ||
		!strings.HasPrefix(err.Error(), "make bucket herald_keys: ") {
		t.Errorf("three replicas on one server: got %v", err)
	}
	nc.Close()
	if _, err := keystore.Make(t.Context(), js, 1); err == nil {
		t.Error("opened on a closed connection")
	}
}
