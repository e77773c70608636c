package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
)

// A secret of tokens that cannot be written down at the start is written later, and
// is the one that Herald checks tokens with from the start.
func TestTokenSecretIsWrittenLater(t *testing.T) {
	cfg := defaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "not", "there", "yet")
	keep, err := cfg.ownTokenSecret(slog.New(slog.DiscardHandler))
	if err != nil || keep == nil {
		t.Fatalf("got %v; want a start, and something to write later", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- keep(ctx) }() // waited for below
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "the secret is written down", func() bool {
		b, err := os.ReadFile(tokenSecretFile(cfg.Data))
		return err == nil && strings.TrimSpace(string(b)) == cfg.Gateway.JWTSecret
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	again := defaultConfig()
	again.Data = cfg.Data
	if keep, err := again.ownTokenSecret(slog.New(slog.DiscardHandler)); err != nil || keep != nil ||
		again.Gateway.JWTSecret != cfg.Gateway.JWTSecret {
		t.Errorf("the next start has another secret (%v)", err)
	}
}

// What is written reaches every writer that takes it, whatever the others say.
func TestEveryWriter(t *testing.T) {
	var out strings.Builder
	closed, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	n, err := (everyWriter{closed, &out, closed}).Write([]byte("a line"))
	if n != 6 || err != nil || out.String() != "a line" {
		t.Errorf("got %d, %v and %q", n, err, out.String())
	}
}
