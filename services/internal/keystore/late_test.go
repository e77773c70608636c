package keystore_test

import (
	"testing"

	"github.com/herald-push/herald/services/internal/natstest"
)

// The first key is shown although the store's answers come too late: its digest is
// stored, and nobody could use it without its secret.
func TestFirstKeyWithLateAnswers(t *testing.T) {
	store, _ := open(t, natstest.Start(t))
	secret, k, err := store.Late().First(t.Context(), noon)
	if err != nil || secret == "" || k.Name != "default" {
		t.Errorf("got %q, %+v, %v; want a key and its secret", secret, k, err)
	}
	if secret, _, err := store.First(t.Context(), noon); err != nil || secret != "" {
		t.Errorf("the second time: got %q, %v; want no other key", secret, err)
	}
	if keys := list(t, store); len(keys) != 1 {
		t.Errorf("the store has %d keys, want one", len(keys))
	}
}
