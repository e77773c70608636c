package main

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/admin/audit"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// The first login with the password that was printed; a key that is made, used,
// and revoked; a message that is published from the console and found in the log.
func TestConsoleKeysAndMessages(t *testing.T) {
	port := proctest.FreePort(t)
	base := "http://127.0.0.1:" + port
	p := start(t, "allinone", t.TempDir(), nil, "-listen", "127.0.0.1:"+port, "-ops-listen", "127.0.0.1:0")
	p.WaitFor("curl")
	o := logIn(t, p, base)
	if page := get(t, base+"/admin/"); !strings.Contains(page, "<!doctype html>") {
		t.Errorf("the page: got %.200s", page)
	}
	if status,
		_ := o.call("POST", "login",
		map[string]string{"user": "admin", "password": "wrong"}); status != http.StatusUnauthorized {
		t.Errorf("a wrong password: got %d", status)
	}
	want := func(status int, method, path string, body any) string {
		t.Helper()
		got, text := o.call(method, path, body)
		if got != status {
			t.Fatalf("%s %s: got %d %s, want %d", method, path, got, text, status)
		}
		return text
	}

	var key struct {
		Key    struct{ ID string }
		Secret string
	}
	if err := json.Unmarshal(
		[]byte(want(http.StatusOK, "POST", "keys", json.RawMessage(`{"name":"shop","channels":["orders.>"]}`))),
		&key); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "ingest to know the key", func() bool {
		status, _ := post(t, base+"/v1/channels/orders.eu", key.Secret, "application/json", `1`)
		return status == http.StatusOK
	})
	if status, body := post(t, base+"/v1/channels/other", key.Secret, "application/json",
		`1`); status != http.StatusForbidden {
		t.Errorf("another channel: got %d %s", status, body)
	}
	want(http.StatusNoContent, "DELETE", "keys/"+key.Key.ID, nil)
	natstest.Eventually(t, 30*time.Second, "ingest to refuse the key", func() bool {
		status, _ := post(t, base+"/v1/channels/orders.eu", key.Secret, "application/json", `2`)
		return status == http.StatusUnauthorized
	})

	want(http.StatusBadRequest, "POST", "publish", json.RawMessage(`{"channel":"a..b","data":1}`))
	want(http.StatusOK, "POST", "publish",
		json.RawMessage(`{"channel":"orders.eu","event":"made","data":{"text":"wildebeest","n":12345678901234567890}}`))
	natstest.Eventually(t, 30*time.Second, "the message to be in the log", func() bool {
		page := want(http.StatusOK, "GET", "log?q=wildebeest", nil)
		return strings.Contains(page, "12345678901234567890") && strings.Contains(page, `"sender":"console:admin"`) &&
			strings.Contains(page, `"source":"127.0.0.1"`)
	})
	if csv := want(http.StatusOK, "GET", "log?format=csv&q=wildebeest", nil); !strings.HasPrefix(csv,
		"message,sender,timestamp") || strings.Count(csv, "\n") != 2 {
		t.Errorf("export: got %s", csv)
	}
	want(http.StatusBadRequest, "GET", "log?limit=0", nil)
	want(http.StatusBadRequest, "GET", "log?format=csv&limit=5", nil)

	audit := want(http.StatusOK, "GET", "audit", nil)
	for _, action := range []string{"login.refused", "login", "key.add", "key.revoke", "publish"} {
		if !strings.Contains(audit, `"action":"`+action+`"`) {
			t.Errorf("the audit lacks %s: %s", action, audit)
		}
	}
	if strings.Contains(audit, "wildebeest") || strings.Contains(audit, key.Secret) ||
		strings.Contains(p.Output(), key.Secret) {
		t.Error("the audit or the log has a secret or data")
	}
	p.Stop(30 * time.Second)
}

// What the commands change is in the audit as what the console changes is: by whom, and before and after, without
// secrets.
func TestCommandsAreInTheAudit(t *testing.T) {
	dir, port := t.TempDir(), proctest.FreePort(t)
	p := start(t, "allinone", dir, nil, "-listen", "127.0.0.1:"+port, "-ops-listen", "")
	p.WaitFor("is ready")
	o := logIn(t, p, "http://127.0.0.1:"+port)
	noEnv := func(string) (string, bool) { return "", false }
	herald := func(words ...string) (out string, err error) {
		var std strings.Builder
		err = run(t.Context(), append(words, "-data", filepath.Join(dir, "data")), noEnv,
			streams{out: &std, err: io.Discard})
		return std.String(), err
	}
	var secrets []string
	for _, words := range [][]string{
		{"keys", "add", "shop", "-channels", "orders.>", "-rate", "5"}, {"keys", "rotate", "shop"},
		{"keys", "revoke", "shop"},
		{"apps", "add", "till"}, {"apps", "rotate", "till"}, {"apps", "revoke", "till"},
		{"users", "add", "anna"}, {"users", "role", "anna", "-role", "operator"}, {"users", "remove", "anna"},
	} {
		out, err := herald(words...)
		if err != nil {
			t.Fatalf("%v: %v", words, err)
		}
		for _, m := range regexp.MustCompile(`(?:API key|secret|password): +(\S+)`).FindAllStringSubmatch(out, -1) {
			secrets = append(secrets, m[1])
		}
	}
	if len(secrets) != 5 {
		t.Errorf("secrets: got %d", len(secrets))
	}
	for _, words := range [][]string{{"keys", "revoke", "nobody"}, {"keys", "add", "a b ", "-rate", "-1"},
		{"keys", "add", "x", "-channels", "a..b"}, {"keys", "rotate", "default", "-grace", "-1h"},
		{"apps", "add", "x", "-prefix", "a..b"}, {"apps", "revoke", "nobody"}} {
		if out, err := herald(words...); err == nil {
			t.Errorf("%v: got %s", words, out)
		}
	}
	status, body := o.call(http.MethodGet, "audit", nil)
	var page struct{ Rows []audit.Row }
	if err := json.Unmarshal([]byte(body), &page); err != nil || status != http.StatusOK {
		t.Fatalf("the audit: got %d %s", status, body)
	}
	who, where := commandLine()
	var did []string
	for _, row := range page.Rows {
		if row.User != who {
			continue
		}
		if row.Address != where || row.Outcome != audit.Done ||
			string(row.Before) == "null" && string(row.After) == "null" {
			t.Errorf("got %+v", row)
		}
		did = append(did, row.Action+" "+row.Target)
	}
	if want := []string{"user.remove anna", "user.role anna", "user.add anna", "app.revoke till", "app.rotate till",
		"app.add till", "key.revoke shop", "key.rotate shop", "key.add shop"}; !slices.Equal(did, want) {
		t.Errorf("got %q, want %q, in %s", did, want, body)
	}
	for _, secret := range secrets {
		if strings.Contains(body, secret) {
			t.Error("the audit has a secret")
		}
	}
	p.Stop(time.Minute)
}
