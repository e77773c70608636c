package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// What the Python service's users keep, line by line, against the real binary
// with their config file.
func TestPredecessor(t *testing.T) {
	dir, port := t.TempDir(), proctest.FreePort(t)
	if err := os.Mkdir(filepath.Join(dir, "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := fmt.Sprintf(`{"http": "http", "socketport": %q, "certpath": "cert.pem", "keypath": "key.pem"}`, port)
	if err := os.WriteFile(filepath.Join(dir, "config", "socket_config.json"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	icon := []byte("their own icon")
	if err := os.WriteFile(filepath.Join(dir, "favicon.ico"), icon, 0o644); err != nil {
		t.Fatal(err)
	}
	began := time.Now().Truncate(time.Millisecond)
	p := start(t, "allinone", dir, nil)
	p.WaitFor("is ready")
	base := "http://127.0.0.1:" + port
	key := p.Find(`API key: +(\S+)`)

	ws, _, err := websocket.DefaultDialer.Dial("ws://127.0.0.1:"+port+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = ws.SetReadDeadline(time.Now().Add(5 * time.Minute))
	if _, b, err := ws.ReadMessage(); err != nil || !strings.Contains(string(b), `"welcome"`) {
		t.Fatalf("got %s, %v; want a welcome", b, err)
	}

	for _, tc := range []struct {
		name, key, body string
		status          int
		answer          string
	}{
		{"a message", key[1], `{"message": "Hello"}`, 200, `{"status":"Message sent"}`},
		{"an object", key[1], `{"message": {"n": 1}}`, 200, `{"status":"Message sent"}`},
		{"a wrong key", "hk_wrong-wrong-wrong-wrong", `{"message": "Hello"}`, 401, `{"error":"Unauthorized"}`},
		{"no key", "", `{"message": "Hello"}`, 401, `{"error":"Unauthorized"}`},
		{"no key and nonsense", "", `{`, 401, `{"error":"Unauthorized"}`},
		{"no message", key[1], `{}`, 400, `{"error":"No message provided"}`},
		{"an empty message", key[1], `{"message": ""}`, 400, `{"error":"No message provided"}`},
		{"null", key[1], `{"message": null}`, 400, `{"error":"No message provided"}`},
	} {
		status, answer := post(t, base+"/notify", tc.key, "application/json", tc.body)
		if status != tc.status || strings.TrimSpace(answer) != tc.answer {
			t.Errorf("%s: got %d %s, want %d %s", tc.name, status, answer, tc.status, tc.answer)
		}
	}
	for _, want := range []string{`"channel":"broadcast","event":"message","data":"Hello"`, `"data":{"n": 1}`} {
		_, b, err := ws.ReadMessage()
		for err == nil && strings.Contains(string(b), `"type":"position"`) { // each heartbeat
			_, b, err = ws.ReadMessage()
		}
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("got %s, %v; want %s", b, err, want)
		}
	}

	// Session id, IP, total or remaining connections of that IP, users online.
	p.WaitFor("msg=\"client connected\"")
	_ = ws.Close()
	p.WaitFor("msg=\"client disconnected\"")
	for _, want := range []string{
		`msg="client connected" service=herald conn=[0-9a-f]{16} remote=127\.0\.0\.1 ip_connections=1 online=1`,
		`msg="client disconnected" service=herald conn=[0-9a-f]{16} remote=127\.0\.0\.1 ip_connections=0 online=0`,
	} {
		if !regexp.MustCompile(want).MatchString(p.Output()) {
			t.Errorf("no log line %s in\n%s", want, p.Output())
		}
	}

	if got := get(t, base+"/favicon.ico"); got != string(icon) {
		t.Errorf("favicon.ico: got %q, want their own", got)
	}
	if got := get(t, base+"/"); !strings.Contains(got, "<title>") {
		t.Errorf("/: got %q, want the page", proctest.Tail(got, 200))
	}
	var message, sender, timestamp string
	db := openDB(t, filepath.Join(dir, "data", "herald.db"))
	natstest.Eventually(t, 30*time.Second, "a row is in the table", func() bool {
		return db.QueryRow(`SELECT message, sender, timestamp FROM messages ORDER BY seq LIMIT 1`).Scan(&message,
			&sender, &timestamp) == nil
	})
	if at, err := time.Parse("2006-01-02T15:04:05.000Z", timestamp); message != "Hello" || sender != "default" ||
		err != nil || at.Before(began) || at.After(time.Now()) {
		t.Errorf("log: got %q, %q, %q, %v; want Hello, default, and a time of this test", message, sender,
			timestamp, err)
	}
	p.Stop(20 * time.Second)
	if got := defaultConfig().Gateway.MaxPerIP; got != 2000 {
		t.Errorf("limit per IP: got %d, want the predecessor's 2000", got)
	}
}
