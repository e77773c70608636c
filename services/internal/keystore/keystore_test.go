package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	quiet = slog.New(slog.DiscardHandler)
	noon  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	all   = keystore.Options{Channels: []string{">"}}
)

// syncBuffer is a buffer that a watcher may log into.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// open opens the bucket on a connection of its own, as another process does.
func open(t testing.TB, s *natstest.Server) (*keystore.Store, jetstream.JetStream) {
	t.Helper()
	return openOn(t, s.Connect())
}

func openOn(t testing.TB, nc *nats.Conn) (*keystore.Store, jetstream.JetStream) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	return store, js
}

func bucket(t testing.TB, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), keystore.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func add(t testing.TB, s *keystore.Store, name string) (secret string, k auth.Key) {
	t.Helper()
	secret, k, err := s.Add(t.Context(), name, all, noon)
	if err != nil {
		t.Fatal(err)
	}
	return secret, k
}

func list(t testing.TB, s *keystore.Store) []keystore.Info {
	t.Helper()
	keys, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// watch keeps a ring equal to the bucket until the test ends.
func watch(t testing.TB, s *keystore.Store, log *slog.Logger) *auth.Ring {
	t.Helper()
	var ring auth.Ring
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Watch(ctx, &ring, log, func() { close(ready) }) }() // closing twice would panic
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-time.After(10 * time.Second):
		t.Fatal("not ready")
	}
	return &ring
}

func valid(ring *auth.Ring, secret string) bool {
	_, err := ring.Authenticate(secret, noon)
	return err == nil
}

func TestAddAndList(t *testing.T) {
	s := natstest.Start(t)
	one, _ := open(t, s)
	two, _ := open(t, s)
	if keys := list(t, two); len(keys) != 0 {
		t.Errorf("a new bucket has %+v", keys)
	}
	expires := noon.Add(time.Hour)
	secret, k, err := one.Add(t.Context(), "shop", keystore.Options{Channels: []string{"orders.>"}, Rate: 5, Expires: expires}, noon)
	if err != nil || secret == "" || k.Name != "shop" || k.Rate != 5 || !k.Expires.Equal(expires) {
		t.Fatalf("got %q, %+v, %v", secret, k, err)
	}
	add(t, two, "blog")
	keys := list(t, one)
	if len(keys) != 2 || keys[0].Name != "blog" || keys[1].ID != k.ID || keys[1].Digest != k.Digest || !keys[1].Created.Equal(noon) || keys[1].Damaged || !keys[1].LastUsed.IsZero() {
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
		{"x", keystore.Options{Channels: []string{"a"}, Rate: -1}, "key rate -1: want messages a second, or 0 for no limit"},
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
		k, err := auth.NewKey(secrets[i], fmt.Sprintf("k%03d", i), []string{">"}, noon)
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

func put(t testing.TB, kv jetstream.KeyValue, key, value string) {
	t.Helper()
	if _, err := kv.PutString(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

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
	if err != nil || k2.Name != "shop" || k2.Rate != 7 || len(k2.Channels) != 1 || k2.Channels[0] != "orders.>" || !k2.Expires.IsZero() {
		t.Fatalf("got %+v, %v", k2, err)
	}
	natstest.Eventually(t, 5*time.Second, "both keys are known, and the old one ends", func() bool {
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
	natstest.Eventually(t, 5*time.Second, "that one key has ended", func() bool {
		_, err := ring.Authenticate(second, later)
		return errors.Is(err, auth.ErrExpired) && valid(ring, third) && valid(ring, fourth)
	})
	if _, _, err := store.Rotate(t.Context(), "nobody", 0, later); !errors.Is(err, keystore.ErrNotFound) || err.Error() != `key "nobody": no such key` {
		t.Errorf("got %v", err)
	}
}

// Whoever revokes a key while somebody rotates it has revoked it.
func TestRotateDoesNotBringARevokedKeyBack(t *testing.T) {
	s := natstest.Start(t)
	one, _ := open(t, s)
	two, _ := open(t, s)
	for i := range 40 {
		name := fmt.Sprintf("k%d", i)
		_, k := add(t, one, name)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := one.Rotate(t.Context(), name, time.Hour, noon); err != nil && !errors.Is(err, keystore.ErrNotFound) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if n, err := two.Revoke(t.Context(), k.ID); err != nil || n != 1 {
				t.Errorf("revoked %d, %v", n, err)
			}
		})
		wg.Wait()
		for _, left := range list(t, one) {
			if left.ID == k.ID {
				t.Fatalf("round %d: the revoked key is back: %+v", i, left)
			}
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
	natstest.Eventually(t, 5*time.Second, "all are known", func() bool { return valid(ring, a) && valid(ring, b) && valid(ring, other) })
	if n, err := two.Revoke(t.Context(), "shop"); n != 2 || err != nil {
		t.Errorf("by name: got %d, %v", n, err)
	}
	natstest.Eventually(t, 5*time.Second, "both are gone", func() bool { return !valid(ring, a) && !valid(ring, b) })
	if !valid(ring, other) {
		t.Error("another key went too")
	}
	if n, err := two.Revoke(t.Context(), k.ID); n != 1 || err != nil {
		t.Errorf("by ID: got %d, %v", n, err)
	}
	natstest.Eventually(t, 5*time.Second, "it is gone", func() bool { return ring.Len() == 0 })
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
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: keystore.Bucket, MaxValueSize: 30}) // too small for a key
	if err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	if secret, _, err := store.First(t.Context(), noon); err == nil || secret != "" {
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

func TestWatch(t *testing.T) {
	s := natstest.Start(t)
	one, _ := open(t, s)
	two, _ := open(t, s)
	before, _ := add(t, two, "before")
	gone, _ := add(t, two, "gone")
	if _, err := two.Revoke(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	var out syncBuffer
	ring := watch(t, one, slog.New(slog.NewTextHandler(&out, nil)))
	env, err := auth.NewKey("the-key-from-the-environment", "env", []string{">"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Put(env); err != nil {
		t.Fatal(err)
	}
	if !valid(ring, before) || valid(ring, gone) || ring.Len() != 2 {
		t.Errorf("when ready: %v, %v, %d keys", valid(ring, before), valid(ring, gone), ring.Len())
	}
	after, _ := add(t, two, "after")
	natstest.Eventually(t, 5*time.Second, "a new key is known", func() bool { return valid(ring, after) })
	if _, err := two.Revoke(t.Context(), "before"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 5*time.Second, "a revoked key is gone", func() bool { return !valid(ring, before) })
	if !valid(ring, "the-key-from-the-environment") {
		t.Error("a key that is not from the bucket went too")
	}
	if n := strings.Count(out.String(), "API key revoked"); n != 1 {
		t.Errorf("%d revocations in the log, want the one that happened: %s", n, out.String())
	}
	for _, secret := range []string{before, gone, after} {
		if strings.Contains(out.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

func TestWatchEndsWhenTheConnectionIsClosed(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	store, _ := openOn(t, nc)
	done := make(chan error, 1)
	var ring auth.Ring
	go func() { done <- store.Watch(t.Context(), &ring, quiet, func() { nc.Close() }) }()
	select {
	case err := <-done:
		if !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on without a connection")
	}
}

// cable is the way from a client to NATS, which a test can cut.
type cable struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex
	down  bool              // guarded by mu
	conns map[net.Conn]bool // guarded by mu; both ends of each connection
}

func lay(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: l, to: to, conns: map[net.Conn]bool{}}
	c.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			c.join(client)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.cut()
		c.wg.Wait()
	})
	return c
}

func (c *cable) join(client net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	server, err := net.Dial("tcp", c.to)
	if c.down || err != nil {
		_ = client.Close()
		if err == nil {
			_ = server.Close()
		}
		return
	}
	for _, ends := range [][2]net.Conn{{client, server}, {server, client}} {
		c.conns[ends[0]] = true
		c.wg.Go(func() {
			_, _ = io.Copy(ends[0], ends[1])
			_, _ = ends[0].Close(), ends[1].Close()
		})
	}
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = false
}

// A key that was revoked while this process could not hear NATS must not stay
// valid when it can again, whatever became of the bucket meanwhile. The
// watcher of nats.go alone needs 20 s after a restart, and does not notice the
// last two at all.
func TestRevocationsWhileNATSIsAway(t *testing.T) {
	for _, c := range []struct {
		name   string
		revoke func(t *testing.T, s *natstest.Server, admin *keystore.Store, js jetstream.JetStream)
	}{
		{"revoked", func(t *testing.T, _ *natstest.Server, admin *keystore.Store, _ jetstream.JetStream) {
			if _, err := admin.Revoke(t.Context(), "gone"); err != nil {
				t.Fatal(err)
			}
		}},
		{"revoked, then NATS restarts", func(t *testing.T, s *natstest.Server, admin *keystore.Store, _ jetstream.JetStream) {
			if _, err := admin.Revoke(t.Context(), "gone"); err != nil {
				t.Fatal(err)
			}
			s.Restart()
		}},
		{"damaged", func(t *testing.T, _ *natstest.Server, admin *keystore.Store, js jetstream.JetStream) {
			for _, k := range list(t, admin) {
				if k.Name == "gone" {
					put(t, bucket(t, js), "key."+k.ID, "{")
				}
			}
		}},
		{"revoked, and its marker is purged", func(t *testing.T, _ *natstest.Server, admin *keystore.Store, js jetstream.JetStream) {
			if _, err := admin.Revoke(t.Context(), "gone"); err != nil {
				t.Fatal(err)
			}
			if err := bucket(t, js).PurgeDeletes(t.Context(), jetstream.DeleteMarkersOlderThan(-1)); err != nil {
				t.Fatal(err)
			}
		}},
		{"the bucket is made anew without it", func(t *testing.T, _ *natstest.Server, _ *keystore.Store, js jetstream.JetStream) {
			kept, err := bucket(t, js).Get(t.Context(), keyOf(t, js, "kept"))
			if err != nil {
				t.Fatal(err)
			}
			if err := js.DeleteKeyValue(t.Context(), keystore.Bucket); err != nil {
				t.Fatal(err)
			}
			if _, err := keystore.Open(t.Context(), js, 1); err != nil {
				t.Fatal(err)
			}
			put(t, bucket(t, js), kept.Key(), string(kept.Value()))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			wire := lay(t, s.URL[strings.LastIndexByte(s.URL, '@')+1:])
			nc, err := natsx.Connect(natsx.Config{URL: "nats://test:test@" + wire.listener.Addr().String(), Name: "ingest"}, quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			store, _ := openOn(t, nc)
			admin, js := open(t, s)
			gone, _ := add(t, admin, "gone")
			kept, _ := add(t, admin, "kept")
			var out syncBuffer
			ring := watch(t, store, slog.New(slog.NewTextHandler(&out, nil)))
			wire.cut()
			natstest.Eventually(t, 5*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
			c.revoke(t, s, admin, js)
			if !valid(ring, gone) || !valid(ring, kept) {
				t.Error("an outage takes keys away")
			}
			wire.mend()
			natstest.Eventually(t, 10*time.Second, "the connection is back", nc.IsConnected)
			begin := time.Now()
			natstest.Eventually(t, 10*time.Second, "the key is gone", func() bool {
				if !valid(ring, kept) {
					t.Fatal("the other key went with it")
				}
				return !valid(ring, gone)
			})
			t.Logf("noticed %s after the connection was back", time.Since(begin).Round(time.Millisecond))
			if _, _, err := admin.Add(t.Context(), "new", all, noon); err != nil {
				natstest.Eventually(t, 10*time.Second, "the administrator is back", func() bool {
					_, _, err := admin.Add(t.Context(), "new", all, noon)
					return err == nil || errors.Is(err, keystore.ErrExists)
				})
			}
			natstest.Eventually(t, 10*time.Second, "watching goes on", func() bool { return ring.Len() == 2 })
			if n := strings.Count(out.String(), "name=kept"); n != 1 && c.name != "the bucket is made anew without it" {
				t.Errorf("the key that stayed is in the log %d times: %s", n, out.String())
			}
		})
	}
}

func keyOf(t *testing.T, js jetstream.JetStream, name string) string {
	t.Helper()
	store, err := keystore.Open(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list(t, store) {
		if k.Name == name {
			return "key." + k.ID
		}
	}
	t.Fatalf("no key %s", name)
	return ""
}

// NATS restarts again and again under a watcher that is never told.
func TestWatchOverRestarts(t *testing.T) {
	s := natstest.Start(t)
	store, _ := open(t, s)
	admin, _ := open(t, s)
	ring := watch(t, store, quiet)
	for i := range 3 {
		secret, _ := add(t, admin, fmt.Sprintf("k%d", i))
		natstest.Eventually(t, 10*time.Second, "the key is known", func() bool { return valid(ring, secret) })
		s.Restart()
		if !valid(ring, secret) {
			t.Error("an outage takes keys away")
		}
		natstest.Eventually(t, 15*time.Second, "the key can be revoked", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := admin.Revoke(ctx, fmt.Sprintf("k%d", i))
			return err == nil || errors.Is(err, keystore.ErrNotFound)
		})
		natstest.Eventually(t, 10*time.Second, "the key is gone", func() bool { return !valid(ring, secret) })
	}
}

// A damaged entry opens no door, spoils no list, and can be revoked.
func TestDamagedEntries(t *testing.T) {
	s := natstest.Start(t)
	store, js := open(t, s)
	kv := bucket(t, js)
	good, k := add(t, store, "good")
	var out syncBuffer
	ring := watch(t, store, slog.New(slog.NewTextHandler(&out, nil)))
	secret := auth.NewSecret()
	d, err := auth.NewKey(secret, "evil", []string{">"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string]string{
		"00000001": "",
		"00000002": "{",
		"00000003": "null",
		"00000004": `{"id":"00000004","name":"x","digest":"","channels":[">"]}`,
		"00000005": fmt.Sprintf(`{"id":"00000005","name":"x","digest":%q,"channels":[">"]}`, d.Digest),
		"00000006": fmt.Sprintf(`{"id":%q,"name":"x","digest":%q,"channels":[">"]}`, d.ID, d.Digest), // revoking 00000006 would not revoke it
		d.ID:       fmt.Sprintf(`{"id":%q,"name":"x\",\"channel\":\"y","digest":%q,"channels":[">"]}`, d.ID, d.Digest),
	}
	for id, value := range damaged {
		put(t, kv, "key."+id, value)
	}
	put(t, kv, "used."+k.ID, "yesterday")
	put(t, kv, "unknown.kind", "x")
	natstest.Eventually(t, 5*time.Second, "all are complained about", func() bool {
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
		if _, is := damaged[info.ID]; info.Damaged != is || is && (info.Name != "" || info.Digest != "" || info.Channels != nil) {
			t.Errorf("got %+v", info)
		}
	}
	put(t, kv, "key."+k.ID, "{") // a good one that breaks
	natstest.Eventually(t, 5*time.Second, "the door closes", func() bool { return !valid(ring, good) })
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
	natstest.Eventually(t, 5*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
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

func TestOpenFails(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Open(t.Context(), js, 3); err == nil || !strings.HasPrefix(err.Error(), "open key bucket herald_keys: ") {
		t.Errorf("three replicas on one server: got %v", err)
	}
	nc.Close()
	if _, err := keystore.Open(t.Context(), js, 1); err == nil {
		t.Error("opened on a closed connection")
	}
}

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
	natstest.Eventually(t, 5*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
	uses.Touch("ffffffff", noon)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	uses.Flush(ctx, quiet)
	if took := time.Since(begin); took > 2*time.Second {
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
