package gateway

import (
	"net/http"
	"strings"
	"testing"
)

// A gateway is ready when every route answers, and not before.
func TestReadyForEveryRoute(t *testing.T) {
	_, g, _ := shopGateway(t)
	wantUnready := func(why string) {
		t.Helper()
		if resp, _ := g.call(http.MethodGet, "/readyz", nil); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: /readyz: %s", why, resp.Status)
		}
		if err := g.ready(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: ready: %v", why, err)
		}
	}
	g.becomesReady()
	g.io("", nil)
	g.pusher()
	g.connect("channel=broadcast")

	signer := g.pids.Swap(nil)
	wantUnready("the secret by which Socket.IO clients recover")
	g.pids.Store(signer)
	g.apps.loaded.Store(false)
	wantUnready("the apps of Pusher's clients")
	g.apps.loaded.Store(true)

	if resp, _ := g.call(http.MethodGet, "/readyz", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("with everything /readyz: %s", resp.Status)
	}
}

// Without a bucket of apps, which ingest makes, others are served all the same, after a while.
func TestReadyWithoutApps(t *testing.T) {
	t.Parallel() // it waits
	b := newBroker(t)
	g := b.gateway()
	g.becomesReady()
	if g.apps.loaded.Load() {
		t.Error("apps were loaded of which there is no bucket")
	}
	g.io("", nil)
}
