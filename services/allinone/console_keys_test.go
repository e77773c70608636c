package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

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
