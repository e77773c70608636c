package faults

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	apiKey = "hk_fault-suite-0123456789abcdef"
	module = "github.com/herald-push/herald/services/"

	ingestCommand  = module + "ingest/cmd/ingest"
	gatewayCommand = module + "gateway/cmd/gateway"
	loggerCommand  = module + "logger/cmd/logger"
	natsCommand    = "github.com/nats-io/nats-server/v2"
)

// service is one process of the system that can be killed and started again
// at the same address.
type service struct {
	t       testing.TB
	name    string // of a NATS server, as the cluster knows it
	command string
	dir     string
	env     []string
	addr    string // host:port
	ops     string // host:port of the operators' port
	args    []string
	ready   func() bool // whether it does its work
	files   int         // how many files it may have open; 0: as many as this process
	p       *proctest.Process
}

// newService starts one of Herald's services on a port of its own. Later
// variables win over earlier ones.
func newService(t testing.TB, command, dir, natsURL string, env ...string) *service {
	t.Helper()
	addr, ops := "127.0.0.1:"+proctest.FreePort(t), "127.0.0.1:"+proctest.FreePort(t)
	s := &service{
		t: t, command: command, dir: dir, addr: addr, ops: ops, args: []string{"-listen", addr, "-ops-listen", ops},
		env: append([]string{
			"HERALD_NATS_URL=" + natsURL, "HERALD_API_KEY=" + apiKey,
			"HERALD_LOG_FORMAT=text", "HERALD_LOG_LEVEL=info", "HERALD_DRAIN=3s",
			"HERALD_MAX_CONNECTIONS_PER_IP=0", // every client has the same address
		}, env...),
		ready: func() bool { return proctest.IsReady("http://" + addr) },
	}
	s.start()
	return s
}

func (s *service) start() {
	s.t.Helper()
	binary, args := proctest.Build(s.t, s.command), s.args
	if s.files > 0 {
		args = append([]string{"-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(s.files), binary}, args...)
		binary = "/bin/sh"
	}
	s.p = proctest.Start(s.t, binary, s.dir, s.env, args...)
}

// await waits until the service does its work.
func (s *service) await() {
	s.t.Helper()
	natstest.Eventually(s.t, time.Minute, s.command+" at "+s.addr+" is ready", s.ready)
}

// kill is kill -9.
func (s *service) kill() { s.p.Kill() }

// stop is SIGTERM; it fails the test if the service takes much longer than
// its drain window, on a busy machine too.
func (s *service) stop() { s.p.Stop(time.Minute) }

// metric adds up a metric over its labels; what the service does not serve is 0.
func (s *service) metric(name string) float64 {
	s.t.Helper()
	resp, err := http.Get("http://" + s.ops + "/metrics")
	if err != nil {
		s.t.Fatalf("metrics of %s: %v", s.command, err)
	}
	defer func() { _ = resp.Body.Close() }()
	sum := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			s.t.Fatalf("metric %s: %v", lines.Text(), err)
		}
		sum += v
	}
	return sum
}

// rss is the resident memory of the process in bytes, from /proc.
func (s *service) rss() int64 {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.p.Pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// cpu is what the process has taken, user and system, from /proc.
func (s *service) cpu() time.Duration {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.p.Pid()))
	if err != nil {
		s.t.Fatal(err)
	}
	// The fields after the name, which may have spaces, begin with the third;
	// 14 and 15 are user and system in ticks of 10 ms (proc(5)).
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// newBroker is one NATS server with file storage; lines are added to its
// configuration.
func newBroker(t testing.TB, name, lines string) *service {
	t.Helper()
	return newBrokerIn(t, t.TempDir(), "", name, lines)
}

// newBrokerIn is newBroker with its files in dir, and with store added to the
// configuration of JetStream.
func newBrokerIn(t testing.TB, dir, store, name, lines string) *service {
	t.Helper()
	addr := "127.0.0.1:" + proctest.FreePort(t)
	config := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("server_name: %s\nlisten: %q\nclient_advertise: %q\njetstream {\nstore_dir: %q\n%s\n}\n%s",
		name, addr, addr, dir, store, lines)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, name: name, command: natsCommand, dir: dir, addr: addr, args: []string{"-c", config}}
	s.ready = func() bool { return answers(s.url()) }
	return s
}

func (s *service) url() string { return "nats://" + s.addr }

// answers reports whether JetStream behind this URL does: in a cluster, that
// it has a leader.
func answers(url string) (ok bool) {
	ask(url, func(ctx context.Context, js jetstream.JetStream) {
		_, err := js.AccountInfo(ctx)
		ok = err == nil
	})
	return ok
}
