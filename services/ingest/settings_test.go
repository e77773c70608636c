package ingest

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/settings"
	"github.com/nats-io/nats.go/jetstream"
)

// What an administrator changes acts without a restart: on requests, and on the stream.
func TestSettingsThatChange(t *testing.T) {
	server := natstest.Start(t)
	cfg := DefaultConfig()
	table := cfg.Settings()
	env := func(string) (string, bool) { return "", false }
	if _, err := config.Parse("ingest", nil, env, nil, &bytes.Buffer{}, table); err != nil {
		t.Fatal(err)
	}
	live := settings.New(table, slog.New(slog.DiscardHandler))
	r := start(t, server, func(_ *Config, d *Deps) { d.Settings = live })
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	nc := server.Connect()
	go func() { done <- live.Run(ctx, nc) }() // ends with stop
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	js, err := jetstream.New(server.Connect())
	if err != nil {
		t.Fatal(err)
	}
	store, err := settings.Open(t.Context(), js) // ingest has made it
	if err != nil {
		t.Fatal(err)
	}
	post := func() int {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, r.url+"/v1/channels/a",
			strings.NewReader(strings.Repeat("x", 200)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-KEY", envKey)
		req.Header.Set("Content-Type", "text/plain")
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if status := post(); status != http.StatusOK {
		t.Fatalf("before: got %d", status)
	}
	for name, value := range map[string]string{"max-message-bytes": "100", "stream-max-age": "2h",
		"stream-max-bytes": "2MiB"} {
		if err := store.Set(t.Context(), name, value); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, 30*time.Second, "a message over the new limit is refused",
		func() bool { return post() == http.StatusRequestEntityTooLarge })
	natstest.Eventually(t, 30*time.Second, "the stream keeps what it should", func() bool {
		s, err := js.Stream(t.Context(), proto.Stream)
		if err != nil {
			t.Fatal(err)
		}
		has := s.CachedInfo().Config
		return has.MaxAge == 2*time.Hour && has.MaxBytes == 2<<20
	})
	if err := live.Check("max-request-bytes", "1KiB"); err != nil {
		t.Error(err)
	}
	if err := live.Check("stream-max-bytes", "1"); err == nil || !strings.Contains(err.Error(), "want at least") {
		t.Errorf("a stream of one byte: got %v", err)
	}
}
