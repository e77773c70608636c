//go:build unix

package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// A hangup ends no service, and is no reason not to stop cleanly later.
func TestHangup(t *testing.T) {
	nats := natstest.Start(t)
	dir := t.TempDir()
	env := []string{"HERALD_NATS_URL=" + nats.URL, "HERALD_API_KEY=" + testKey}
	for command, args := range map[string][]string{
		"allinone":            {"-data", dir},
		"ingest/cmd/ingest":   nil,
		"gateway/cmd/gateway": nil,
		"logger/cmd/logger":   {"-db", dir + "/split.db"},
		"admin/cmd/admin":     nil,
	} {
		addr := "127.0.0.1:" + proctest.FreePort(t)
		mine := env
		if command == "allinone" {
			mine = nil
		}
		p := start(t, command, dir, mine, append(args, "-listen", addr)...)
		if command == "logger/cmd/logger" || command == "gateway/cmd/gateway" || command == "admin/cmd/admin" {
			p.WaitFor("listening") // ready only with a stream and a bucket, which ingest makes
		} else {
			proctest.Ready(t, "http://"+addr)
		}
		for range 2 {
			if err := syscall.Kill(p.Pid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		p.WaitFor("hangup")
		if got := get(t, "http://"+addr+"/healthz"); !strings.Contains(got, "ok") {
			t.Errorf("%s after a hangup: got %s", command, got)
		}
		p.Stop(30 * time.Second)
	}
}
