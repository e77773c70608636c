//go:build compose

package deploy

import (
	"bytes"
	"context"
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
)

// impatientRules are the rules of the repository in a folder of their own, with
// seconds in place of the minutes for which an alert waits: which alerts fire is
// the question here, and promtool has asked for how long.
func impatientRules(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob(monitoring + "rules/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("rules: got %d files, %v", len(files), err)
	}
	for _, f := range files {
		b := regexp.MustCompile(`(?m)^(\s+for: )\d+[mh]$`).ReplaceAll(read(t, f), []byte("${1}5s"))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // Prometheus is another user
		t.Fatal(err)
	}
	return dir
}

// fires waits until every alert of the names fires.
func (s *stack) fires(names ...string) {
	s.t.Helper()
	begin := time.Now()
	for _, name := range names {
		natstest.Eventually(s.t, 2*time.Minute, name+" fires", func() bool {
			firing, err := s.ask(fmt.Sprintf(`ALERTS{alertname="%s",alertstate="firing"}`, name))
			return err == nil && len(firing) > 0
		})
	}
	s.t.Logf("after %s: %s", time.Since(begin).Round(time.Second), strings.Join(names, ", "))
}

// alertsSpeak takes away what can be away, and waits for the alert that says so.
func (s *stack) alertsSpeak() {
	s.t.Helper()
	s.compose("stop", "nats")
	s.fires("HeraldNATSDown", "HeraldNotReady")
	s.compose("start", "nats")
	natstest.Eventually(s.t, 2*time.Minute, "nothing says that NATS is down", func() bool {
		firing, err := s.ask(`ALERTS{alertname=~"HeraldNATSDown|HeraldNotReady",alertstate="firing"}`)
		return err == nil && len(firing) == 0
	})
	s.compose("stop", "logger")
	for _, id := range s.containers("gateway")[1:] { // expected are two, and one is left
		s.run("docker", "stop", "--time", "30", id)
	}
	s.fires("HeraldLoggerMissing", "HeraldTooFew")
	s.compose("start", "logger", "gateway")
}

// burst sends so much at once that the log's largest transactions need what
// SQLite would keep in temporary files, where the file system is read-only.
func (s *stack) burst(key string) {
	s.t.Helper()
	const lines, size = 100_000, 500
	begin := time.Now()
	reader, writer := io.Pipe()
	go func() { // ends when the request does, which closes the reader
		line := bytes.Repeat([]byte{'x'}, size)
		var err error
		for i := 0; i < lines && err == nil; i++ {
			_, err = fmt.Fprintf(writer, "{\"channel\":\"burst\",\"data\":\"%s\"}\n", line)
		}
		_ = writer.CloseWithError(err)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/v1/messages", reader)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-API-KEY", key)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("the burst: %v", err)
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if stored := bytes.Count(answer, []byte(`"status":"stored"`)); err != nil || resp.StatusCode != http.StatusOK ||
		stored != lines {
		s.t.Fatalf("the burst: %s, %d of %d lines stored, %v: %.300s", resp.Status, stored, lines, err, answer)
	}
	sent := time.Since(begin)
	natstest.Eventually(s.t, 2*time.Minute, "the log has the burst", func() bool {
		export, err := s.log(key, "ndjson&channel=burst")
		return err == nil && bytes.Count(export, []byte{'\n'}) == lines
	})
	s.t.Logf("%d lines of %d bytes: stored after %s, in the log after %s", lines, size, sent.Round(time.Second),
		time.Since(begin).Round(time.Second))
	for _, metric := range []string{"herald_logger_unwritable", "herald_logger_disk_full"} {
		trouble, err := s.ask(metric + " == 1")
		if err != nil || len(trouble) > 0 {
			s.t.Errorf("%s after the burst: %v, %v", metric, trouble, err)
		}
	}
}
