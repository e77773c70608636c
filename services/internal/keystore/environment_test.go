package keystore_test

import (
	"errors"
	"testing"

	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
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
	put(t, bucket(t, js), "key."+old.ID, `{"id":"`+old.ID+`","name":"env","digest":"`+old.Digest+`","channels":["a"],"created":"2026-11-22T12:00:00Z"}`)
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
