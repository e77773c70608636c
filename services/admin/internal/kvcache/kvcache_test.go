package kvcache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCache(t *testing.T) {
	nats := natstest.Start(t)
	nc := nats.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "test"})
	if err != nil {
		t.Fatal(err)
	}
	c := New(kv, nc.IsConnected)
	get := func(key string) string {
		t.Helper()
		b, _, found, err := c.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			return "(none)"
		}
		return string(b)
	}
	if got := get("a"); got != "(none)" || c.Has("a") {
		t.Errorf("of nothing: got %q", got)
	}
	if err := c.Create(ctx, "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(ctx, "a", []byte("2")); !errors.Is(err, jetstream.ErrKeyExists) {
		t.Errorf("made twice: got %v", err)
	}
	// Changes of this process count at once, those of another one soon.
	if err := c.Put(ctx, "a", []byte("3")); err != nil || get("a") != "3" {
		t.Errorf("changed here: got %q, %v", get("a"), err)
	}
	if _, err := kv.Put(ctx, "a", []byte("4")); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the change of another process", func() bool { return get("a") == "4" })
	if err := kv.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the deletion by another process",
		func() bool { return get("a") == "(none)" })
	if err := c.Put(ctx, "a", []byte("5")); err != nil {
		t.Fatal(err)
	}
	if err := c.Update(ctx, "a", []byte("6"), 1); !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		t.Errorf("over another revision: got %v", err)
	}
	if err := c.Delete(ctx, "a"); err != nil || get("a") != "(none)" {
		t.Errorf("deleted here: got %q, %v", get("a"), err)
	}

	// The memory is bounded.
	for i := range maxEntries + 100 {
		c.put(fmt.Sprint(i), []byte("x"), 1)
	}
	if n := len(c.entries); n > maxEntries {
		t.Errorf("got %d entries", n)
	}
	// Without NATS the last word holds for a while, and what is not known is an error.
	if err := c.Put(ctx, "b", []byte("7")); err != nil {
		t.Fatal(err)
	}
	nats.Stop()
	age := func(by time.Duration) {
		c.mu.Lock()
		defer c.mu.Unlock()
		e := c.entries["b"]
		e.read = time.Now().Add(-by)
		c.entries["b"] = e
	}
	age(Fresh + time.Second)
	if got := get("b"); got != "7" {
		t.Errorf("without NATS: got %q", got)
	}
	age(Stale + time.Second)
	if _, _, _, err := c.Get(ctx, "b"); err == nil {
		t.Error("without NATS for long: want an error")
	}
	if _, _, _, err := c.Get(ctx, "c"); err == nil {
		t.Error("without NATS, not known: want an error")
	}
}
