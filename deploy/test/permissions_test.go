package deploy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
	"github.com/nats-io/nats-server/v2/server"
)

// The permissions that README.md names are enough: a whole Herald, with its console,
// works on a NATS that grants nothing else, and is never refused anything.
func TestNATSPermissions(t *testing.T) {
	block := regexp.MustCompile(`(?s)  authorization \{ users: \[\{.*?\n  \}\] \}\n`).FindString(
		string(read(t, "../../deploy/README.md")))
	if block == "" {
		t.Fatal("README.md has no permissions")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:-1\"\njetstream { store_dir: %q }\n%s", filepath.Join(dir, "nats"), block)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NATS_PASSWORD", "s3cret-of-this-test")
	opts, err := server.ProcessConfigFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	nats, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() {
		nats.Shutdown()
		nats.WaitForShutdown()
	})
	if !nats.ReadyForConnections(2 * time.Minute) {
		t.Fatal("NATS does not start")
	}
	port := proctest.FreePort(t)
	base := "http://127.0.0.1:" + port
	env := []string{"HERALD_NATS_URL=" + strings.Replace(nats.ClientURL(), "nats://",
		"nats://herald:s3cret-of-this-test@", 1), "HERALD_API_KEY=" + "hk_4c0f9a7d2be61853a7d0"}
	p := start(t, "allinone", dir, env, "-listen", "127.0.0.1:"+port, "-ops-listen", "", "-log-level", "debug")
	p.WaitFor("is ready")

	found := p.Find(`user (\S+), password (\S+)`)
	var cookie, csrf string
	call := func(method, path, body string) string {
		t.Helper()
		req, err := http.NewRequest(method, base+"/admin/api/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Cookie", cookie)
		req.Header.Set("X-CSRF-Token", csrf)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s %s: got %d %s, %v", method, path, resp.StatusCode, b, err)
		}
		for _, c := range resp.Cookies() {
			cookie = c.Name + "=" + c.Value
		}
		return string(b)
	}
	var session struct{ CSRF string }
	if err := json.Unmarshal(
		[]byte(call("POST", "login", fmt.Sprintf(`{"user":%q,"password":%q}`, found[1], found[2]))),
		&session); err != nil {
		t.Fatal(err)
	}
	csrf = session.CSRF
	call("POST", "publish", `{"channel":"a","data":"gnu"}`)
	natstest.Eventually(t, 30*time.Second, "the message to be in the log",
		func() bool { return strings.Contains(call("GET", "log?q=gnu", ""), "console:admin") })
	for _, path := range []string{"overview", "connections", "channels", "addresses", "refusals", "settings", "keys",
		"apps", "users", "audit"} {
		call("GET", path, "")
	}
	call("POST", "keys", `{"name":"shop","channels":["a"]}`)
	call("PUT", "settings/max-connections-per-ip", `{"value":"100"}`)
	if status, body := proctest.Post(t, base+"/v1/channels/a", "hk_4c0f9a7d2be61853a7d0", "application/json",
		"1"); status != http.StatusOK {
		t.Errorf("publish: got %d %s", status, body)
	}
	p.Stop(30 * time.Second)
	if said := regexp.MustCompile(`(?i)[^\n]*permissions? violation[^\n]*`).FindString(p.Output()); said != "" {
		t.Errorf("NATS refused something: %s", said)
	}
}
