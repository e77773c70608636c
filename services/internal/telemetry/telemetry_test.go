package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestLoggerLevels(t *testing.T) {
	for _, c := range []struct{ level, want string }{
		{"debug", "DIWE"}, {"info", "IWE"}, {"warn", "WE"}, {"error", "E"}, {"INFO", "IWE"},
	} {
		var out bytes.Buffer
		log, _, err := telemetry.NewLogger(&out, "gateway", telemetry.LogConfig{Level: c.level, Format: "text"})
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("D")
		log.Info("I")
		log.Warn("W")
		log.Error("E")
		var got string
		for line := range strings.Lines(out.String()) {
			if !strings.Contains(line, "service=gateway") {
				t.Errorf("a line without the service: %s", line)
			}
			_, msg, _ := strings.Cut(line, "msg=")
			got += msg[:1]
		}
		if got != c.want {
			t.Errorf("level %s: got %s, want %s", c.level, got, c.want)
		}
	}
}

func TestLoggerJSON(t *testing.T) {
	var out bytes.Buffer
	log, _, err := telemetry.NewLogger(&out, "ingest", telemetry.LogConfig{Level: "info", Format: "JSON"})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("stopping", "err", errors.New("line\nbreak"))
	var line struct{ Level, Msg, Service, Err string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if line.Level != "INFO" || line.Msg != "stopping" || line.Service != "ingest" || line.Err != "line\nbreak" {
		t.Errorf("got %+v", line)
	}
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("not one line: %q", out.String())
	}
}

func TestLoggerRefuses(t *testing.T) {
	for _, c := range []struct {
		cfg  telemetry.LogConfig
		want string
	}{
		{telemetry.LogConfig{Level: "loud", Format: "json"}, `log level "loud": want debug, info, warn or error`},
		{telemetry.LogConfig{Level: "info", Format: "xml"}, `log format "xml": want json or text`},
		{telemetry.LogConfig{}, "log level \"\": want debug, info, warn or error\nlog format \"\": want json or text"},
	} {
		if _, _, err := telemetry.NewLogger(io.Discard, "x", c.cfg); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestLogSettings(t *testing.T) {
	cfg := telemetry.LogConfig{Level: "info", Format: "json"}
	env := map[string]string{"HERALD_LOG_LEVEL": "debug"}
	if _, err := config.Parse("x", []string{"-log-format=text"}, configtest.Vars(env), nil, nil,
		cfg.Settings()); err != nil {
		t.Fatal(err)
	}
	if cfg.Level != "debug" || cfg.Format != "text" {
		t.Errorf("got %+v", cfg)
	}
}

func TestRegistry(t *testing.T) {
	reg := telemetry.NewRegistry("test")
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "herald_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	for _, name := range []string{"herald_build_info", "go_goroutines", "process_cpu_seconds_total"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != 1 {
			t.Errorf("%s: got %d series, %v", name, n, err)
		}
	}
	if telemetry.BuildVersion() == "" {
		t.Error("no version")
	}
	telemetry.Version = "v1.2.3"
	defer func() { telemetry.Version = "" }()
	if got := telemetry.BuildVersion(); got != "v1.2.3" {
		t.Errorf("stamped version: got %s", got)
	}
}

func ops(checks ...func(*telemetry.Ops)) http.Handler {
	o := telemetry.NewOps(telemetry.NewRegistry("test"))
	for _, add := range checks {
		add(o)
	}
	r := chi.NewRouter()
	o.MountOps(r)
	return r
}

func get(h http.Handler, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHealthAsksNobody(t *testing.T) {
	w := get(ops(func(o *telemetry.Ops) {
		o.AddCheck("nats", func(context.Context) error { t.Error("asked"); return errors.New("gone") })
	}), "/healthz")
	if w.Code != 200 || w.Body.String() != `{"status":"ok"}`+"\n" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %s %v", w.Code, w.Body, w.Header())
	}
}

func TestReady(t *testing.T) {
	fine := func(context.Context) error { return nil }
	for _, c := range []struct {
		name string
		add  func(*telemetry.Ops)
		code int
		body string
	}{
		{"no checks", func(*telemetry.Ops) {}, 200, `{"status":"ready"}`},
		{"all fine", func(o *telemetry.Ops) { o.AddCheck("nats", fine); o.AddCheck("db", fine) }, 200,
			`{"status":"ready"}`},
		{"every fault, in order", func(o *telemetry.Ops) {
			o.AddCheck("nats", func(context.Context) error { return errors.New("not connected") })
			o.AddCheck("db", fine)
			o.AddCheck("drain", func(context.Context) error { return errors.New("draining") })
		}, 503, `{"status":"not ready","reasons":["nats: not connected","drain: draining"]}`},
		{"a check is replaced", func(o *telemetry.Ops) {
			o.AddCheck("nats", func(context.Context) error { return errors.New("old") })
			o.AddCheck("nats", fine)
		}, 200, `{"status":"ready"}`},
		{"a check is given a deadline", func(o *telemetry.Ops) {
			o.AddCheck("slow", func(ctx context.Context) error {
				if d, ok := ctx.Deadline(); !ok || time.Until(d) > 2*time.Second {
					return errors.New("it has none")
				}
				return nil
			})
		}, 200, `{"status":"ready"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := get(ops(c.add), "/readyz")
			if w.Code != c.code || strings.TrimSpace(w.Body.String()) != c.body {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, c.code, c.body)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	w := get(ops(), "/metrics")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `herald_build_info{service="test",version="`) ||
		!strings.Contains(w.Body.String(), "\nherald_ready 1\n") {
		t.Errorf("got %d %.200s", w.Code, w.Body)
	}
}

func TestProfilesOnlyFromLoopback(t *testing.T) {
	header := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, "192.0.2.1") }
	}
	for _, c := range []struct {
		name, remote, host string
		change             func(*http.Request)
		want               int
	}{
		{"IPv4", "127.0.0.1:4000", "127.0.0.1:8080", nil, 200},
		{"IPv6", "[::1]:4000", "[::1]:8080", nil, 200},
		{"IPv6 without port", "[::1]:4000", "[::1]", nil, 200},
		{"IPv4-mapped", "[::ffff:127.0.0.1]:4000", "localhost:8080", nil, 200},
		{"name", "127.0.0.1:4000", "localhost", nil, 200},
		{"another machine", "192.0.2.7:4000", "localhost:8080", nil, 404},
		{"another machine, forged", "192.0.2.7:4000", "127.0.0.1",
			func(r *http.Request) { r.Header.Set("X-Forwarded-For", "127.0.0.1") }, 404},
		{"rebound name", "127.0.0.1:4000", "evil.example:8080", nil, 404},
		{"name that only begins so", "127.0.0.1:4000", "localhost.evil.example", nil, 404},
		{"no host", "127.0.0.1:4000", "", nil, 404},
		{"garbage", "garbage", "localhost", nil, 404},
		{"proxy, X-Forwarded-For", "127.0.0.1:4000", "localhost", header("X-Forwarded-For"), 404},
		{"proxy, empty X-Forwarded-For", "127.0.0.1:4000", "localhost",
			func(r *http.Request) { r.Header.Set("X-Forwarded-For", "") }, 404},
		{"proxy, X-Real-IP", "127.0.0.1:4000", "localhost", header("X-Real-IP"), 404},
		{"proxy, Forwarded", "127.0.0.1:4000", "localhost", header("Forwarded"), 404},
		{"proxy, Via", "127.0.0.1:4000", "localhost", header("Via"), 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap",
				"/debug/pprof/symbol"} {
				w := get(ops(), path, func(r *http.Request) {
					r.RemoteAddr, r.Host = c.remote, c.host
					if c.change != nil {
						c.change(r)
					}
				})
				if w.Code != c.want {
					t.Errorf("%s: got %d, want %d", path, w.Code, c.want)
				}
			}
		})
	}
}
