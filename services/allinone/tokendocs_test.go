package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/services/internal/proctest"
)

// The programs of docs/how-to/tokens.md sign tokens that a running Herald
// takes. Go and Node are there for whoever runs these tests; Python and PHP are
// tried where they are.
func TestTokensInDocs(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	text := read("../../docs/how-to/tokens.md")
	dir, port := t.TempDir(), proctest.FreePort(t)
	p := start(t, "allinone", dir, nil, "-listen", "127.0.0.1:"+port)
	p.WaitFor("is ready")
	secret := strings.TrimSpace(read(filepath.Join(dir, "data", "jwt.secret")))
	if strings.Contains(p.Output(), secret) {
		t.Error("the secret of tokens is in the log")
	}
	for _, c := range []struct {
		language, file, command string
		args                    []string
		wanted                  bool // the program is there for certain
	}{
		{"go", "main.go", "go", []string{"run", "main.go"}, true},
		{"js", "sign.cjs", "node", []string{"sign.cjs"}, true},
		{"python", "sign.py", "python3", []string{"sign.py"}, false},
		{"php", "sign.php", "php", []string{"sign.php"}, false},
	} {
		block := regexp.MustCompile("(?s)```" + c.language + "\n(.*?)```").FindStringSubmatch(text)
		if block == nil {
			t.Errorf("no example in %s", c.language)
			continue
		}
		if _, err := exec.LookPath(c.command); err != nil && !c.wanted {
			t.Logf("NOT TESTED here, for want of %s: the example in %s", c.command, c.language)
			continue
		}
		work := t.TempDir()
		if err := os.WriteFile(filepath.Join(work, c.file), []byte(block[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(c.command, c.args...)
		cmd.Dir, cmd.Env = work, append(os.Environ(), "HERALD_JWT_SECRET="+secret, "GOWORK=off")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v\n%s", c.language, err, stderr.String())
			continue
		}
		token := strings.TrimSpace(string(out))
		url := "ws://127.0.0.1:" + port + "/ws?channel=user.4711.orders&token=" + token
		ws, _, err := websocket.DefaultDialer.Dial(url, nil)
		if err != nil {
			t.Errorf("%s: %v", c.language, err)
			continue
		}
		_ = ws.SetReadDeadline(time.Now().Add(2 * time.Minute))
		if _, b, err := ws.ReadMessage(); err != nil || !strings.Contains(string(b), `"welcome"`) {
			t.Errorf("%s: got %s, %v; want a welcome", c.language, b, err)
		}
		_ = ws.Close()
	}
	p.Stop(20 * time.Second)
}
