package main

import (
	"bufio"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/proctest"
)

// A publisher whose stream of lines has no end does not hold up a Herald that stops: the lines that were read are
// answered, and Herald is gone long before the drain window is over.
func TestStopsBesideAStreamWithoutAnEnd(t *testing.T) {
	base := "http://127.0.0.1:" + proctest.FreePort(t)
	herald := start(t, "allinone", t.TempDir(), nil, "-listen", base[len("http://"):], "-ops-listen", "",
		"-drain", "10m")
	key := herald.Find(`API key: +(\S+)`)[1]
	body, lines := io.Pipe()
	t.Cleanup(func() { _ = lines.Close() })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/messages", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-KEY", key)
	req.Header.Set("Content-Type", "application/x-ndjson")
	go func() { // ends when the line was read, or with the request
		_, _ = io.WriteString(lines, `{"channel":"broadcast","data":1}`+"\n")
	}()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if result, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Fatalf("got %q, %v, want the result of the line", result, err)
	}
	herald.Stop(2 * time.Minute)
}
