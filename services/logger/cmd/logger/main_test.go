package main

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/service"
	"github.com/herald-push/herald/services/internal/service/servicetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noEnv = configtest.Vars(nil)

func TestRunThatOnlySaysSomething(t *testing.T) {
	for _, c := range []struct {
		name, args, env, out, err string
	}{
		{name: "help", args: "-h", out: "HERALD_LOG_MAX_AGE"},
		{name: "version", args: "-version", out: "\n"},
		{name: "unknown flag", args: "-nothing", err: "logger -h"},
		{name: "argument", args: "serve", err: `unexpected argument "serve"`},
		{name: "placeholder key", env: "changeme-changeme-changeme", err: "HERALD_API_KEY"},
		{name: "all faults at once", args: "-log-max-age=1s -log-max-bytes=1 -db= -listen=", err: "log-max-bytes"},
		{name: "half a certificate", args: "-nats-cert=cert.pem", err: "nats-key"},
		{name: "bad log level", args: "-log-level=loud", err: "loud"},
		{name: "nobody to ask for health", args: "-health -listen=127.0.0.1:1", err: "readiness"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			env := configtest.Vars(map[string]string{"HERALD_API_KEY": c.env})
			err := service.Run(context.Background(), spec(), strings.Fields(c.args), env, &out, io.Discard)
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %v, want an error with %q", err, c.err)
			}
			if !strings.Contains(out.String(), c.out) {
				t.Errorf("got %q, want %q in it", out.String(), c.out)
			}
			if c.env != "" && strings.Contains(err.Error(), c.env) {
				t.Errorf("the secret is in %v", err)
			}
		})
	}
}

// process is a logger that listens.
type process struct {
	addr string
	log  *logtest.Buffer
	stop context.CancelFunc
	done chan error
}

// start runs a logger until the test ends, and returns when it listens.
func start(t *testing.T, nats *natstest.Server) process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	p := process{log: new(logtest.Buffer), stop: cancel, done: make(chan error, 1)}
	go func() {
		p.done <- service.Run(ctx, spec(), []string{"-listen", "127.0.0.1:0", "-nats", nats.URL, "-db",
			filepath.Join(t.TempDir(), "herald.db")}, noEnv, io.Discard, p.log)
	}()
	natstest.Eventually(t, 30*time.Second, "it listens", func() bool {
		if m := regexp.MustCompile(`"addr":"([^"]+)"`).FindStringSubmatch(p.log.String()); m != nil {
			p.addr = m[1]
		}
		return p.addr != ""
	})
	return p
}

// health asks for its readiness.
func (p process) health(t *testing.T) error {
	return service.Run(t.Context(), spec(), []string{"-health", "-listen", p.addr}, noEnv, io.Discard, io.Discard)
}

func TestRunServesAndStops(t *testing.T) {
	nats := natstest.Start(t)
	js, _ := nats.Stream(nats.Connect())
	if _, err := keystore.Make(context.Background(), js, 1); err != nil {
		t.Fatal(err)
	}
	p := start(t, nats)
	natstest.Eventually(t, 30*time.Second, "it is healthy", func() bool { return p.health(t) == nil })
	http.DefaultClient.CloseIdleConnections()
	p.stop()
	select {
	case err := <-p.done:
		if err != nil {
			t.Errorf("run: got %v, want nil", err)
		}
	case <-time.After(time.Minute):
		t.Error("it does not stop")
	}
	if strings.Contains(p.log.String(), "test:test") {
		t.Error("the NATS password is in the log")
	}
}

// A process that starts while NATS is away is alive and not ready, and reads
// the stream as soon as it is there.
func TestRunBeginsWithoutNATS(t *testing.T) {
	nats := natstest.Start(t)
	js, _ := nats.Stream(nats.Connect())
	if _, err := keystore.Make(context.Background(), js, 1); err != nil {
		t.Fatal(err)
	}
	nats.Stop()
	p := start(t, nats)
	var err error
	natstest.Eventually(t, 30*time.Second, "it answers", func() bool {
		err = p.health(t)
		return err == nil || strings.Contains(err.Error(), "503")
	})
	if err == nil || !strings.Contains(err.Error(), "NATS is not connected") {
		t.Errorf("without NATS: got %v, want the reason", err)
	}
	nats.Restart()
	natstest.Eventually(t, 30*time.Second, "it is ready", func() bool { return p.health(t) == nil })
	p.stop()
	if err := <-p.done; err != nil {
		t.Errorf("run: got %v, want nil", err)
	}
}

func TestRunWaitsForNATSAndCanBeStopped(t *testing.T) {
	servicetest.StopsWhileWaiting(t, spec, "-db", filepath.Join(t.TempDir(), "herald.db"))
}
