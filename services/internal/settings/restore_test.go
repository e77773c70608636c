package settings_test

import (
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/settings"
	"github.com/nats-io/nats.go/jetstream"
)

// What somebody has closed stays closed where the bucket is deleted, in every process, and is stored again.
func TestDeletedSettingsComeBack(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	store, err := settings.Make(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	ingest, gateway := start(t, nil), start(t, nil)
	ingest.Remake(1)
	(*settings.Live)(nil).Remake(1)
	for _, p := range []*process{ingest, gateway} {
		p.follow(t, s)
		p.Await(t.Context(), time.Minute)
	}
	if err := store.Set(t.Context(), "dry-run", "true"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{ingest, gateway} {
		eventually(t, "the value acts", func() bool { return p.now().DryRun })
	}
	if err := js.DeleteKeyValue(t.Context(), settings.Bucket); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, time.Minute, "the value is stored again", func() bool {
		n, err := store.Revision(t.Context(), "dry-run")
		return err == nil && n > 0
	})
	if err := store.Set(t.Context(), "max-request", "200"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{ingest, gateway} {
		natstest.Eventually(t, 2*time.Minute, "the bucket is followed again",
			func() bool { return p.now().Request == 200 })
		p.mu.Lock()
		for _, c := range p.applied {
			if !c.DryRun {
				t.Errorf("the value did not act for a while: %+v", p.applied)
			}
		}
		p.mu.Unlock()
	}
}
