//go:build compose

package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
)

// stack is docker-compose.yml as a project of its own, beside whatever else
// runs on this machine.
type stack struct {
	t          testing.TB
	project    string
	env        []string
	base       string // through the balancer
	prometheus string
}

// newStack names the project and takes it down at the end, whatever happens.
func newStack(t testing.TB) *stack {
	t.Helper()
	if out, err := exec.Command("docker", "info", "-f", "{{.ServerVersion}}").CombinedOutput(); err != nil {
		t.Fatalf("this test needs a running docker engine, and there is none: %v\n%s", err, out)
	}
	balancer, grafana, prometheus := proctest.FreePort(t), proctest.FreePort(t), proctest.FreePort(t)
	s := &stack{
		t: t, project: fmt.Sprintf("herald-test-%d", os.Getpid()),
		base: "http://127.0.0.1:" + balancer, prometheus: "http://127.0.0.1:" + prometheus,
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HERALD_") {
			s.env = append(s.env, v)
		}
	}
	s.env = append(s.env, "COMPOSE_PROJECT_NAME="+s.project, "HERALD_SUBNET=10.217.84.0/24",
		"HERALD_PORT="+balancer, "GRAFANA_PORT="+grafana, "PROMETHEUS_PORT="+prometheus,
		"COMPOSE_FILE=docker-compose.yml:deploy/test/docker-compose.test.yml", "HERALD_TEST_RULES="+impatientRules(t))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("docker compose ps:\n%s", s.compose("ps", "-a"))
			t.Logf("docker compose logs:\n%s", proctest.Tail(s.compose("logs", "--tail", "30"), 20000))
		}
		s.compose("down", "-v", "--remove-orphans", "-t", "1")
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

// compose runs docker compose and returns what it wrote to standard output.
func (s *stack) compose(args ...string) string {
	s.t.Helper()
	return s.run("docker", append([]string{"compose"}, args...)...)
}

func (s *stack) run(name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = "../..", s.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		s.t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, proctest.Tail(stderr.String(), 4000))
	}
	return stdout.String()
}

// containers are the ids of a service's running containers.
func (s *stack) containers(service string) []string {
	s.t.Helper()
	return strings.Fields(s.compose("ps", "-q", service))
}

// restart stops a service's containers one after the other with SIGTERM and
// their own grace period, and waits until each is healthy again.
func (s *stack) restart(service string) {
	s.t.Helper()
	for _, id := range s.containers(service) {
		s.run("docker", "restart", "--time", "30", id)
		natstest.Eventually(s.t, time.Minute, service+" is healthy again", func() bool {
			return strings.TrimSpace(s.run("docker", "inspect", "-f", "{{.State.Health.Status}}", id)) == "healthy"
		})
	}
}

// awaitSpread waits until Prometheus has seen this many gateways, each with at
// least this many clients, and all clients together.
func (s *stack) awaitSpread(gateways, least, clients int) {
	s.t.Helper()
	var got []float64
	natstest.Eventually(s.t, time.Minute, fmt.Sprintf("%d clients on %d gateways", clients, gateways), func() bool {
		samples, err := s.ask(`herald_gateway_connections and on (job, instance) up == 1`)
		sum := 0.0
		got = got[:0]
		for _, g := range samples {
			got = append(got, g.number())
			sum += g.number()
		}
		return err == nil && len(got) == gateways && slices.Min(got) >= float64(least) && sum == float64(clients)
	})
	s.t.Logf("clients by gateway: %v", got)
}

// hearer is what one `herald listen` printed.
type hearer struct {
	name string
	mu   sync.Mutex
	out  bytes.Buffer // guarded by mu
}

func (h *hearer) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.Write(p)
}

func (h *hearer) lines() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Count(h.out.Bytes(), []byte{'\n'})
}

// numbers are the messages heard, in order.
func (h *hearer) numbers(t testing.TB) []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []int
	for line := range bytes.Lines(h.out.Bytes()) {
		var m struct{ Data int }
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%s: %s: %v", h.name, line, err)
		}
		all = append(all, m.Data)
	}
	return all
}

// publisher sends the numbers 1, 2, 3 … one after the other, each until it is
// stored, with an idempotency key.
type publisher struct {
	n, retries int // of use after stop
	done       chan struct{}
	ctx        context.Context
	stop       context.CancelFunc
}

func (s *stack) publish(key string) *publisher {
	p := &publisher{done: make(chan struct{})}
	p.ctx, p.stop = context.WithCancel(context.Background())
	go func() { // ends with p.ctx, after the message in hand; finish waits
		defer close(p.done)
		for p.ctx.Err() == nil {
			for p.n++; !s.publishOne(key, p.n); p.retries++ {
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	s.t.Cleanup(func() { p.stop() })
	return p
}

func (p *publisher) finish() (n, retries int) {
	p.stop()
	<-p.done
	return p.n, p.retries
}

// publishOne tries once; false: try again.
func (s *stack) publishOne(key string, n int) bool {
	return s.send(key, "/v1/channels/"+proto.Broadcast, "application/json", fmt.Sprintf("n-%d", n), fmt.Sprint(n))
}

// send posts a message once; false: it is not known to be stored.
func (s *stack) send(key, path, kind, idempotencyKey, data string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, strings.NewReader(data))
	if err != nil {
		return false
	}
	req.Header.Set("X-API-KEY", key)
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Idempotency-Key", idempotencyKey)
	req.Header.Set("X-Forwarded-For", forged)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode == http.StatusOK
}

// forged is what a client likes to say of its address.
const forged = "203.0.113.9"

// TestCompose is a day of docker-compose.yml: up from nothing, messages to
// clients on all gateways, more gateways, one killed, everything restarted, and
// down to nothing. No client misses a message, or has one twice.
func TestCompose(t *testing.T) {
	s := newStack(t)
	begin := time.Now()
	s.compose("config", "-q")
	s.compose("up", "-d", "--wait", "--wait-timeout", "600")
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("up and healthy after %s", time.Since(begin).Round(time.Second))

	shown := regexp.MustCompile(`API key: +(\S+)`).FindStringSubmatch(s.compose("logs", "--no-log-prefix", "ingest"))
	if shown == nil {
		t.Fatal("the log of ingest shows no API key")
	}
	key := shown[1]
	s.newcomer(key)
	t.Logf("from the images to a message at a client: up, logs, curl; %.1f s", time.Since(begin).Seconds())
	s.outside()
	s.natsIsClosed()

	const early, late = 20, 10
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	herald := proctest.Build(t, "github.com/herald-push/herald/services/allinone")
	var hearers []*hearer
	hear := func(since string) {
		h := &hearer{name: fmt.Sprintf("client %d", len(hearers)+1)}
		hearers = append(hearers, h)
		listening.Go(func() {
			cmd := exec.CommandContext(ctx, herald, "listen", "-url", s.base, "-since", since, proto.Broadcast)
			cmd.Stdout = h
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
			if err := cmd.Run(); err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", h.name, err)
			}
		})
	}
	for range early {
		hear("")
	}
	s.awaitSpread(2, early/4, early)

	s.provoke("channel=not.public")                              // refused: forbidden
	s.provoke("channel=" + proto.Broadcast + "&since=another-1") // a gap: another epoch
	if keys := s.compose("run", "--rm", "-T", "herald", "keys", "list"); !strings.Contains(keys, "default") {
		t.Errorf("herald keys list: got %q, want the key that ingest made", keys)
	}
	findings := s.compose("run", "--rm", "-T", "herald", "doctor")
	for _, want := range []string{"ok    gateway", "ok    ingest", "ok    logger", "ok    admin",
		"ok    stream HERALD"} {
		if !strings.Contains(findings, want) {
			t.Errorf("herald doctor: want %q in\n%s", want, findings)
		}
	}

	p := s.publish(key)
	for _, format := range []string{"json", "ndjson", "csv"} {
		if _, err := s.log(key, format); err != nil {
			t.Error(err)
		}
	}
	s.compose("up", "-d", "--no-recreate", "--wait", "--scale", "gateway=3", "gateway")
	for range late {
		hear("all")
	}
	s.awaitSpread(3, late/2, early+late)
	s.eventStream()
	if n := s.targets()["gateway"]; n != 3 {
		t.Errorf("Prometheus found %d gateways, want 3", n)
	}

	victim := s.containers("gateway")[0]
	s.run("docker", "kill", "--signal", "KILL", victim)
	s.run("docker", "start", victim)
	for _, service := range []string{"gateway", "ingest", "logger", "nats", "balancer"} {
		s.restart(service)
	}
	begin = time.Now()
	s.run("deploy/compose/upgrade.sh")
	t.Logf("upgraded, one container after the other, in %s", time.Since(begin).Round(time.Second))
	s.awaitSpread(3, 0, early+late)

	n, retries := p.finish()
	t.Logf("%d messages published; %d further attempts while something was down", n, retries)
	for _, h := range hearers {
		natstest.Eventually(t, time.Minute, fmt.Sprintf("%s has %d messages", h.name, n),
			func() bool { return h.lines() >= n })
		for i, got := range h.numbers(t) {
			if got != i+1 {
				t.Fatalf("%s: got %d as message %d; want each once, in order", h.name, got, i+1)
			}
		}
	}
	s.logHas(key, n)
	s.burst(key)
	s.monitoringWorks()
	s.alertsSpeak()
	s.withoutGateways()
	s.fires("HeraldNobodyServes")
	if !t.Failed() { // else the containers' own words are wanted
		s.downLeavesNothing()
	}
}

// downLeavesNothing takes the project down and looks for what remains.
func (s *stack) downLeavesNothing() {
	s.t.Helper()
	s.compose("down", "-v")
	label := "label=com.docker.compose.project=" + s.project
	for what, args := range map[string][]string{
		"containers": {"ps", "-aq", "--filter", label},
		"volumes":    {"volume", "ls", "-q", "--filter", label},
		"networks":   {"network", "ls", "-q", "--filter", label},
	} {
		if left := strings.Fields(s.run("docker", args...)); len(left) > 0 {
			s.t.Errorf("down left %s: %v", what, left)
		}
	}
}
