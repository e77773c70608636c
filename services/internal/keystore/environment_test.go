package keystore_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
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

// No key takes the name of the one in the environment, neither new nor rotated.
func TestNameOfTheEnvironmentKey(t *testing.T) {
	store, js := open(t, natstest.Start(t))
	if _, _, err := store.Add(t.Context(), keystore.EnvName, all, noon); !errors.Is(err, keystore.ErrReserved) {
		t.Errorf("add: got %v", err)
	}
	old, err := auth.NewKey("a-key-from-before-the-rule", keystore.EnvName, []string{"a"}, auth.Scopes, noon)
	if err != nil {
		t.Fatal(err)
	}
	put(t, bucket(t, js), "key."+old.ID, `{"id":"`+old.ID+`","name":"env","digest":"`+old.Digest+
		`","channels":["a"],"created":"2026-11-22T12:00:00Z"}`)
	if _, _, err := store.Rotate(t.Context(), keystore.EnvName, 0, noon); !errors.Is(err, keystore.ErrReserved) {
		t.Errorf("rotate: got %v", err)
	}
	if n := len(list(t, store)); n != 1 {
		t.Errorf("got %d keys, want the old one", n)
	}
}

// New keys publish, the first one may do everything, and a rotated one what the
// old one could.
func TestScopesOfNewKeys(t *testing.T) {
	store, _ := open(t, natstest.Start(t))
	_, first, err := store.First(t.Context(), noon)
	if err != nil || auth.JoinScopes(first.May) != auth.JoinScopes(auth.Scopes) {
		t.Errorf("first: got %v, %v", first.May, err)
	}
	if _, k := add(t, store, "shop"); auth.JoinScopes(k.May) != "publish" {
		t.Errorf("new: got %v", k.May)
	}
	for name, want := range map[string]string{first.Name: auth.JoinScopes(auth.Scopes), "shop": "publish"} {
		if _, k, err := store.Rotate(t.Context(), name, 0, noon); err != nil || auth.JoinScopes(k.May) != want {
			t.Errorf("%s rotated: got %v, %v, want %s", name, k.May, err, want)
		}
	}
}

// Whoever looks first at a new deployment makes no bucket.
func TestOpenMakesNothing(t *testing.T) {
	js, err := jetstream.New(natstest.Start(t).Connect())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Open(t.Context(), js); !errors.Is(err, keystore.ErrNoBucket) {
		t.Errorf("got %v, want %v", err, keystore.ErrNoBucket)
	}
	if _, err := js.KeyValue(t.Context(), keystore.Bucket); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Errorf("the bucket: %v", err)
	}
	if _, err := keystore.Make(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	if err := keystore.Replicate(t.Context(), js, 1); err != nil {
		t.Errorf("as many as it has: %v", err)
	}
	if err := keystore.Replicate(t.Context(), js, 3); err == nil {
		t.Error("three replicas on one server")
	}
	if _, err := keystore.Open(t.Context(), js); err != nil {
		t.Errorf("after a vain attempt: %v", err)
	}
}

// The key of a file follows it: another key there counts, and the one before no
// longer does. What cannot be used changes nothing.
func TestEnvKeyFollowsItsFile(t *testing.T) {
	store, _ := open(t, natstest.Start(t))
	stored, _ := add(t, store, "shop")
	const first, second = "f9c1-first-key-4711", "0b7d-second-key-815"
	path := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first)
	ring, log := &auth.Ring{}, &logtest.Buffer{}
	e := &keystore.EnvKey{Secret: first, File: path, Log: slog.New(slog.NewTextHandler(log, nil))}
	if counts, err := e.Admit(t.Context(), store, ring); err != nil || !counts {
		t.Fatalf("got %t, %v", counts, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { e.Follow(ctx, store, ring) })
	works := func(secret string) bool { _, err := ring.Authenticate(secret, time.Now()); return err == nil }
	for _, c := range []struct{ text, says string }{{"", "is empty"}, {"short", "has 5 characters"}} {
		write(c.text)
		natstest.Eventually(t, 30*time.Second, c.says, func() bool { return strings.Contains(log.String(), c.says) })
		if !works(first) {
			t.Errorf("%q in the file: the key before does not work", c.text)
		}
	}
	write("\ufeff" + second + "\r\n")
	natstest.Eventually(t, 30*time.Second, "the new key counts, the old one does not",
		func() bool { return works(second) && !works(first) })
	write(stored)
	natstest.Eventually(t, 30*time.Second, "a stored key is no key of the environment",
		func() bool { return !works(second) })
	natstest.Eventually(t, time.Minute, "the log says so",
		func() bool { return strings.Contains(log.String(), "made with herald keys") })
	if works(stored) {
		t.Error("a stored key is in a ring that is not the bucket's")
	}
	if s := log.String(); strings.Contains(s, first) || strings.Contains(s, second) || strings.Contains(s, stored) {
		t.Error("a key is in the log")
	}
}
