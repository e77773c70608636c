package keystore_test

import (
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
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A key that a new watcher overlooks, because it is written in that moment,
// must not leave the ring.
func TestWatchKeepsWhatAWatcherOverlooks(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	store, _ := openOn(t, nc)
	secret, k := add(t, store, "shop")
	var out logtest.Buffer
	var gets atomic.Int32
	ring := watch(t, store.Overlooking("key."+k.ID, &gets), slog.New(slog.NewTextHandler(&out, nil)))
	for n := int32(1); n <= 2; n++ { // the second time shows that the first is over
		if err := nc.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, 30*time.Second, "the store is asked for the key",
			func() bool { return gets.Load() >= n })
	}
	if !valid(ring, secret) || strings.Contains(out.String(), "API key revoked") {
		t.Errorf("a valid key left the ring: %s", out.String())
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
	var out logtest.Buffer
	ring := watch(t, one, slog.New(slog.NewTextHandler(&out, nil)))
	env, err := auth.NewKey("the-key-from-the-environment", "env", []string{">"}, auth.Scopes, noon)
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
	natstest.Eventually(t, 30*time.Second, "a new key is known", func() bool { return valid(ring, after) })
	if _, err := two.Revoke(t.Context(), "before"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "a revoked key is gone", func() bool { return !valid(ring, before) })
	if !valid(ring, "the-key-from-the-environment") {
		t.Error("a key that is not from the bucket went too")
	}
	revoked := func() int { return strings.Count(out.String(), "API key revoked") }
	natstest.Eventually(t, 30*time.Second, "the log says so", func() bool { return revoked() > 0 })
	if n := revoked(); n != 1 {
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
	case <-time.After(time.Minute):
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
		{"revoked, then NATS restarts",
			func(t *testing.T, s *natstest.Server, admin *keystore.Store, _ jetstream.JetStream) {
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
		{"revoked, and its marker is purged",
			func(t *testing.T, _ *natstest.Server, admin *keystore.Store, js jetstream.JetStream) {
				if _, err := admin.Revoke(t.Context(), "gone"); err != nil {
					t.Fatal(err)
				}
				if err := bucket(t, js).PurgeDeletes(t.Context(), jetstream.DeleteMarkersOlderThan(-1)); err != nil {
					t.Fatal(err)
				}
			}},
		{"the bucket is made anew without it",
			func(t *testing.T, _ *natstest.Server, _ *keystore.Store, js jetstream.JetStream) {
				kept, err := bucket(t, js).Get(t.Context(), keyOf(t, js, "kept"))
				if err != nil {
					t.Fatal(err)
				}
				if err := js.DeleteKeyValue(t.Context(), keystore.Bucket); err != nil {
					t.Fatal(err)
				}
				// The server may still be clearing the old one's folder away.
				natstest.Eventually(t, 30*time.Second, "the bucket is made anew", func() bool {
					_, err := keystore.Make(t.Context(), js, 1)
					return err == nil
				})
				put(t, bucket(t, js), kept.Key(), string(kept.Value()))
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			wire := lay(t, s.URL[strings.LastIndexByte(s.URL, '@')+1:])
			nc, err := natsx.Connect(natsx.Config{URL: "nats://test:test@" + wire.listener.Addr().String(),
				Name: "ingest"},
				quiet)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			store, _ := openOn(t, nc)
			admin, js := open(t, s)
			gone, _ := add(t, admin, "gone")
			kept, _ := add(t, admin, "kept")
			var out logtest.Buffer
			ring := watch(t, store, slog.New(slog.NewTextHandler(&out, nil)))
			wire.cut()
			natstest.Eventually(t, 30*time.Second, "the connection is lost", func() bool { return !nc.IsConnected() })
			c.revoke(t, s, admin, js)
			if !valid(ring, gone) || !valid(ring, kept) {
				t.Error("an outage takes keys away")
			}
			wire.mend()
			natstest.Eventually(t, 30*time.Second, "the connection is back", nc.IsConnected)
			begin := time.Now()
			natstest.Eventually(t, 30*time.Second, "the key is gone", func() bool {
				if !valid(ring, kept) {
					t.Fatal("the other key went with it")
				}
				return !valid(ring, gone)
			})
			t.Logf("noticed %s after the connection was back", time.Since(begin).Round(time.Millisecond))
			if _, _, err := admin.Add(t.Context(), "new", all, noon); err != nil {
				natstest.Eventually(t, 30*time.Second, "the administrator is back", func() bool {
					_, _, err := admin.Add(t.Context(), "new", all, noon)
					return err == nil || errors.Is(err, keystore.ErrExists)
				})
			}
			natstest.Eventually(t, 30*time.Second, "watching goes on", func() bool { return ring.Len() == 2 })
			if n := strings.Count(out.String(), "name=kept"); n != 0 && c.name != "the bucket is made anew without it" {
				t.Errorf("the key that stayed was known at the start, but is in the log %d times: %s", n, out.String())
			}
		})
	}
}

func keyOf(t *testing.T, js jetstream.JetStream, name string) string {
	t.Helper()
	store, err := keystore.Make(t.Context(), js, 1)
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
		natstest.Eventually(t, 30*time.Second, "the key is known", func() bool { return valid(ring, secret) })
		s.Restart()
		if !valid(ring, secret) {
			t.Error("an outage takes keys away")
		}
		natstest.Eventually(t, 30*time.Second, "the key can be revoked", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := admin.Revoke(ctx, fmt.Sprintf("k%d", i))
			return err == nil || errors.Is(err, keystore.ErrNotFound)
		})
		natstest.Eventually(t, 30*time.Second, "the key is gone", func() bool { return !valid(ring, secret) })
	}
}
