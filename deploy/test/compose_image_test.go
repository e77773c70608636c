//go:build compose

package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// docker runs the command and returns what it wrote; both streams.
func docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The images of the services are what Dockerfiles promise: unprivileged, with
// a health check, and of the version that the binary tells.
func TestImages(t *testing.T) {
	for _, service := range []string{"ingest", "gateway", "logger", "admin", "allinone"} {
		image := "herald/" + service + ":dev"
		var made []struct {
			Size   int64
			Config struct {
				User        string
				Labels      map[string]string
				Healthcheck struct{ Test []string }
			}
		}
		if err := json.Unmarshal([]byte(docker(t, "image", "inspect", image)), &made); err != nil {
			t.Fatal(err)
		}
		c := made[0].Config
		if c.User != "65532:65532" || len(c.Healthcheck.Test) == 0 {
			t.Errorf("%s: got user %q and health check %q", image, c.User, c.Healthcheck.Test)
		}
		// revision, date
		version, _, _ := strings.Cut(strings.TrimPrefix(docker(t, "run", "--rm", image, "-version"), "herald "), " (")
		if got := c.Labels["org.opencontainers.image.version"]; got == "" || got != version {
			t.Errorf("%s: the label says version %q, the binary %q", image, got, version)
		}
		t.Logf("%s: version %s, %.1f MB", image, version, float64(made[0].Size)/1e6)
	}
}

// TestAllinoneImage runs the single binary as its image: read-only, without
// privileges, its data on a volume that outlives the container.
func TestAllinoneImage(t *testing.T) {
	name, port := fmt.Sprintf("herald-test-allinone-%d", os.Getpid()), proctest.FreePort(t)
	t.Cleanup(func() {
		_ = exec.Command("docker", "rm", "-f", name).Run() // it may be gone already
		docker(t, "volume", "rm", name)
	})
	docker(t, "volume", "create", name)
	run := func() {
		docker(t, "run", "-d", "--name", name, "--read-only", "--cap-drop", "ALL", "--security-opt",
			"no-new-privileges",
			"--memory", "256m", "-v", name+":/data", "-p", "127.0.0.1:"+port+":5000", "herald/allinone:dev")
		natstest.Eventually(t, time.Minute, "the container is healthy", func() bool {
			return strings.TrimSpace(docker(t, "inspect", "-f", "{{.State.Health.Status}}", name)) == "healthy"
		})
	}
	stop := func() {
		docker(t, "stop", "--time", "30", name)
		if code := strings.TrimSpace(docker(t, "inspect", "-f", "{{.State.ExitCode}}", name)); code != "0" {
			t.Errorf("after SIGTERM: got exit code %s, want 0\n%s", code, docker(t, "logs", "--tail", "20", name))
		}
		docker(t, "rm", name)
	}

	run()
	shown := regexp.MustCompile(`API key: +(\S+)`).FindStringSubmatch(docker(t, "logs", name))
	if shown == nil {
		t.Fatalf("no API key in the log:\n%s", docker(t, "logs", name))
	}
	if status, body := proctest.Post(t, "http://127.0.0.1:"+port+"/v1/channels/broadcast", shown[1], "text/plain",
		"from outside"); status != 200 {
		t.Fatalf("publish: got %d %s", status, body)
	}
	natstest.Eventually(t, 30*time.Second, "the log has the message", func() bool {
		return strings.Contains(docker(t, "exec", name, "/herald", "log"), "from outside")
	})
	stop()

	run() // another container, the same volume
	if got := docker(t, "exec", name, "/herald", "log"); !strings.Contains(got, "from outside") {
		t.Errorf("after a new container: got the log %q, want the message that the volume has", got)
	}
	if logs := docker(t, "logs", name); strings.Contains(logs, "API key:") {
		t.Errorf("a second start shows an API key:\n%s", logs)
	}
	stop()
}
