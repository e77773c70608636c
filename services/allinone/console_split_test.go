package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// The console as a service of its own, twice: one of them prints the password, a
// session holds at both, and an ingest and a logger elsewhere do what is asked.
func TestConsoleSplit(t *testing.T) {
	nats := natstest.Start(t)
	dir := t.TempDir()
	common := []string{"HERALD_NATS_URL=" + nats.URL, "HERALD_API_KEY=" + testKey, "HERALD_CONSOLE=on"}
	addr := func() string { return "127.0.0.1:" + proctest.FreePort(t) }
	ingest, logger, one, two := addr(), addr(), addr(), addr()
	consoles := []*proctest.Process{
		start(t, "admin/cmd/admin", dir, common, "-listen", one, "-ops-listen", ""),
		start(t, "admin/cmd/admin", dir, common, "-listen", two, "-ops-listen", ""),
	}
	for _, c := range consoles {
		c.WaitFor("listening") // before there is an ingest
	}
	if got := get(t, "http://"+one+"/healthz"); !strings.Contains(got, "ok") {
		t.Errorf("without an ingest: got %s", got)
	}
	procs := append([]*proctest.Process{
		start(t, "ingest/cmd/ingest", dir, common, "-listen", ingest, "-ops-listen", ""),
		start(t, "logger/cmd/logger", dir, common, "-listen", logger, "-ops-listen", "", "-db",
			filepath.Join(dir, "herald.db")),
	}, consoles...)
	for _, a := range []string{ingest, logger, one, two} {
		proctest.Ready(t, "http://"+a)
	}
	banner := regexp.MustCompile(`user: +(\S+)\s+password: +(\S+)`)
	var printed [][]string
	natstest.Eventually(t, time.Minute, "a password is printed", func() bool {
		printed = banner.FindAllStringSubmatch(consoles[0].Output()+consoles[1].Output(), -1)
		return len(printed) > 0
	})
	o := logInAs(t, "http://"+one, printed[0][1], printed[0][2])
	o.url = "http://" + two + "/admin/api/"
	if status, body := o.call(http.MethodPost, "publish",
		json.RawMessage(`{"channel":"a","data":"gnu"}`)); status != http.StatusOK {
		t.Errorf("publish at the other console: got %d %s", status, body)
	}
	natstest.Eventually(t, 30*time.Second, "the message to be in the log", func() bool {
		status, body := o.call(http.MethodGet, "log?q=gnu", nil)
		return status == http.StatusOK && strings.Contains(body, `"sender":"console:admin"`)
	})
	for i := len(procs) - 1; i >= 0; i-- {
		procs[i].Stop(20 * time.Second)
	}
	if all := consoles[0].Output() + consoles[1].Output(); len(banner.FindAllString(all, -1)) != 1 {
		t.Errorf("want one password, got\n%s", all)
	}
}
