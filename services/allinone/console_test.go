package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// operator is somebody who is logged in to the console of a running Herald.
type operator struct {
	t      *testing.T
	client *http.Client
	url    string // ends with /admin/api/
	csrf   string
}

// logIn logs in with the password that the process printed.
func logIn(t *testing.T, p *proctest.Process, base string) *operator {
	t.Helper()
	m := p.Find(`user (\S+), password (\S+)`)
	return logInAs(t, base, m[1], m[2])
}

func logInAs(t *testing.T, base, user, password string) *operator {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := insecureClient(t)
	client.Jar = jar
	o := &operator{t: t, client: client, url: base + "/admin/api/"}
	status, body := o.call(http.MethodPost, "login", map[string]string{"user": user, "password": password})
	var session struct{ CSRF string }
	if err := json.Unmarshal([]byte(body), &session); err != nil || status != http.StatusOK || session.CSRF == "" {
		t.Fatalf("login: got %d %s", status, body)
	}
	o.csrf = session.CSRF
	return o
}

func (o *operator) call(method, path string, body any) (status int, answer string) {
	o.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		o.t.Fatal(err)
	}
	req, err := http.NewRequest(method, o.url+path, strings.NewReader(string(b)))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-CSRF-Token", o.csrf)
	resp, err := o.client.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// The old settings window, in the console: a limit acts at once, and the protocol and
// port change without a restart, are written into the file, and hold for the next start.
func TestConsoleChangesSettings(t *testing.T) {
	cert, key := certificate(t)
	dir, port, secure := t.TempDir(), proctest.FreePort(t), proctest.FreePort(t)
	file := filepath.Join(dir, "config", "socket_config.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{\n  \"http\": \"http\",\n  \"socketport\": \""+port+
		"\",\n  \"log-level\": \"info\"\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, "allinone", dir, nil, "-ops-listen", "")
	p.WaitFor("is ready")
	base := "http://127.0.0.1:" + port
	o := logIn(t, p, base)

	if status, body := o.call(http.MethodPut, "settings/max-connections-per-ip",
		map[string]string{"value": "1"}); status != http.StatusOK || !strings.Contains(body, `"value":"1"`) ||
		!strings.Contains(body, `"source":"console"`) {
		t.Fatalf("the limit: got %d %s", status, body)
	}
	first, _, err := websocket.DefaultDialer.Dial("ws://127.0.0.1:"+port+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	// A client that was welcomed is counted.
	if _, b, err := first.ReadMessage(); err != nil || !strings.Contains(string(b), "welcome") {
		t.Fatalf("the first client: got %s, %v", b, err)
	}
	second, _, err := websocket.DefaultDialer.Dial("ws://127.0.0.1:"+port+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, b, err := second.ReadMessage(); err != nil || !strings.Contains(string(b), "too-many-connections") {
		t.Errorf("a second client: got %s, %v", b, err)
	}
	_ = second.Close()
	for _, c := range []struct {
		method, path, value, want string
		status                    int
	}{
		{http.MethodPut, "settings/stream-max-bytes", "1", "want at least", http.StatusUnprocessableEntity},
		{http.MethodPut, "settings/log-level", "loud", "debug, info, warn or error", http.StatusUnprocessableEntity},
		{http.MethodPut, "settings/data", "/elsewhere", "with a restart only", http.StatusConflict},
		{http.MethodPut, "settings/ops-listen", ":1", "ops-listen", http.StatusConflict},
		{http.MethodPut, "settings/colour", "red", "no setting colour", http.StatusNotFound},
		{http.MethodDelete, "settings/max-connections-per-ip", "", `"value":"2000"`, http.StatusOK},
	} {
		var body any
		if c.method == http.MethodPut {
			body = map[string]string{"value": c.value}
		}
		if status, answer := o.call(c.method, c.path, body); status != c.status || !strings.Contains(answer, c.want) {
			t.Errorf("%s %s: got %d %s, want %d and %s", c.method, c.path, status, answer, c.status, c.want)
		}
	}

	if status, body := o.call(http.MethodPut, "listen", map[string]string{"protocol": "https", "port": secure,
		"certpath": cert + ".gone", "keypath": key}); status != http.StatusUnprocessableEntity ||
		!strings.Contains(body, cert+".gone") {
		t.Errorf("a certificate that is not there: got %d %s", status, body)
	}
	status, body := o.call(http.MethodPut, "listen", map[string]string{"protocol": "https", "port": secure,
		"certpath": cert, "keypath": key})
	var change struct{ URL, Token string }
	if err := json.Unmarshal([]byte(body), &change); err != nil || status != http.StatusAccepted ||
		change.URL != "https://127.0.0.1:"+secure+"/admin/" {
		t.Fatalf("HTTPS: got %d %s", status, body)
	}
	there := &operator{t: t, client: insecureClient(t), url: change.URL + "api/"}
	if status, body := there.call(http.MethodPost, "listen/confirm",
		map[string]string{"token": change.Token}); status != http.StatusOK {
		t.Fatalf("confirm: got %d %s", status, body)
	}
	natstest.Eventually(t, 30*time.Second, "the old port is free", func() bool {
		resp, err := insecureClient(t).Get(base)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err != nil
	})
	if err := first.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)); err != nil {
		t.Errorf("a client of the old address: %v", err)
	}
	b, err := os.ReadFile(file)
	want := "{\n  \"http\": \"https\",\n  \"socketport\": \"" + secure +
		"\",\n  \"log-level\": \"info\",\n  \"certpath\": \"" + cert + "\",\n  \"keypath\": \"" + key + "\"\n}\n"
	if err != nil || string(b) != want {
		t.Errorf("the file: got %s, %v; want %s", b, err, want)
	}
	p.Stop(20 * time.Second)

	again := start(t, "allinone", dir, nil, "-ops-listen", "")
	again.WaitFor("is ready")
	resp, err := insecureClient(t).Get("https://127.0.0.1:" + secure + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	again.Stop(20 * time.Second)
}
