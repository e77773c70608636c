package logger

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// problem reads an answer that must be a problem document.
func (r *running) problem(status int, header http.Header, body []byte) proto.Problem {
	r.t.Helper()
	var p proto.Problem
	if err := json.Unmarshal(body, &p); err != nil || header.Get("Content-Type") != "application/problem+json" ||
		p.Status != status || p.Request == "" {
		r.t.Errorf("got %d %s %s, %v, want a problem", status, header.Get("Content-Type"), body, err)
	}
	return p
}

func TestBadParametersAreNamed(t *testing.T) {
	r := newWorld(t).startReady()
	r.fill(orders()...)
	long := strings.Repeat("x", 600)
	for _, query := range []string{
		"channel=", "channel=a..b", "channel=a%20b", "channel=%00", "channel='", "channel=" + long, "sender=a%22b",
		"sender=" + long, "event=a%0ab",
		"after=yesterday", "after=2026-11-22T12:00:00", "before=10000-01-01T00:00:00Z",
		"after=2026-11-22T12:00:00+01:00", "q=*", "q=%22", "q=%ff", "q=" + long, "q=" + strings.Repeat("a+", 20),
		"order=up", "order=ASC", "limit=0", "limit=-1", "limit=1001", "limit=1e3", "limit=99999999999999999999",
		"limit=1%3BDROP+TABLE+messages",
		"cursor=1024", "cursor=mib3k2x9", "cursor=mib3k2x9--1", "cursor=MIB-1", "cursor=a-99999999999999999999",
		"cursor=a-18446744073709551615", "cursor=" + long,
		"format=xml", "format=CSV", "format=csv&limit=5", "format=ndjson&cursor=mib3k2x9-1",
	} {
		status, header, body := r.getRaw(envKey, "/v1/log?"+query)
		p := r.problem(status, header, body)
		name, _, _ := strings.Cut(query[strings.LastIndexByte(query, '&')+1:], "=")
		if name = name[:min(len(name), 40)]; status != 400 || p.Type != proto.ProblemInvalidParameter.Type ||
			!strings.HasPrefix(p.Detail, name+": ") || len(p.Detail) > 900 {
			t.Errorf("%.60s: got %d %.200s, want 400 that begins with %q", query, status, p.Detail, name+": ")
		}
	}
	for query, want := range map[string]string{
		"%zz": "%25", "limit=%f": "%25", "q=a;b": "semicolon", "chanel=a": `"chanel" is not`,
		"Channel=a": `"Channel" is not`, long + "=1": "is not a parameter",
		"q=a&q=b": "q is given 2 times", "limit=1&limit=2": "limit is given 2 times",
	} {
		status, header, body := r.getRaw(envKey, "/v1/log?"+query)
		p := r.problem(status, header, body)
		if status != 400 || p.Type != proto.ProblemInvalidParameter.Type || !strings.Contains(p.Detail, want) ||
			!strings.Contains(p.Detail, "known parameters are after, before, channel,") || len(p.Detail) > 300 {
			t.Errorf("%.60s: got %d %.300s, want 400 with %q and what is known", query, status, p.Detail, want)
		}
	}
}

// What looks like SQL or a full-text operator is only a word, or nothing.
func TestInjection(t *testing.T) {
	r := newWorld(t).startReady()
	r.fill(orders()...)
	for _, attack := range []string{
		`' OR '1'='1`, `" OR ""="`, `full' --`, `'; DROP TABLE messages; --`, `full OR paid`, `full NOT paid`,
		`NEAR(full paid)`, `message:full`,
		`full" NEAR/5 "paid`, `(full`, `full)`, `^full`, `-full`, `+full`, `full AND`, `* full`,
		`full**`, `{full paid}`, "full\x00paid", `\`, `%`, `_`, "fu_l", "f%l",
	} {
		status, _, body := r.get(envKey, "q", attack)
		if status != 200 && status != 400 || strings.Contains(string(body), "SQL") ||
			strings.Contains(string(body), "fts") {
			t.Errorf("q=%s: got %d %s", attack, status, body)
		}
		for _, name := range []string{"sender", "event", "channel", "cursor", "order"} {
			status, _, body := r.get(envKey, name, attack)
			if status == 200 && string(body) != `{"messages":[]}`+"\n" || status == 500 {
				t.Errorf("%s=%s: got %d %s", name, attack, status, body)
			}
		}
	}
	for attack, want := range map[string]string{"full OR paid": "", "-full": "5 4 3", "f%l": "", "full NOT paid": "",
		"message:full": "", "full AND": ""} {
		if got := ids(r.entries(envKey, "q", attack)); got != want {
			t.Errorf("q=%s: got %q, want %q", attack, got, want)
		}
	}
	if got := r.count(); got != 5 {
		t.Errorf("rows afterwards: got %d, want 5", got)
	}
}

func TestWrongKeys(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	r.fill(orders()...)
	expired, _, err := w.keys.Add(context.Background(), "old", keystore.Options{Channels: []string{">"},
		Expires: time.Now().Add(-time.Hour)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]string{"missing": "", "unknown": "hk_00000000000000000000", "prefix": envKey[:20],
		"longer": envKey + "0", "huge": strings.Repeat("k", 8000), "expired": expired} {
		status, header, body := r.get(key, "q", "***") // the key counts before anything else
		if p := r.problem(status, header, body); status != 401 || p.Type != proto.ProblemUnauthorized.Type ||
			header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s key: got %d %s, want 401", name, status, body)
		}
	}
	req, err := http.NewRequest(http.MethodGet, r.url+"/v1/log?limit=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+envKey)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("the key as bearer: got %d, want 200", resp.StatusCode)
	}
	if status, _, _ := r.getRaw("", "/v1/log?key="+envKey); status != 401 {
		t.Errorf("a key in the URL: got %d, want 401", status)
	}
}

func TestBeforeTheBucketIsThere(t *testing.T) {
	w := newWorld(t)
	if err := w.js.DeleteKeyValue(context.Background(), keystore.Bucket); err != nil {
		t.Fatal(err)
	}
	r := w.start()
	if status, header, body := r.get("hk_00000000000000000000"); status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("a key that may be known later: got %d %s, want 503", status, body)
	}
	// Nobody knows yet whether it is one that was revoked.
	if status, _, body := r.get(envKey); status != 503 {
		t.Errorf("the key of the environment: got %d %s, want 503", status, body)
	}
	if err := r.ops.Ready(context.Background()); err == nil {
		t.Error("ready without keys")
	}
	if _, err := keystore.Make(context.Background(), w.js, 1); err != nil {
		t.Fatal(err)
	}
	r.eventually("ready", func() bool { return r.ops.Ready(context.Background()) == nil })
}

func TestOtherMethodsAndPaths(t *testing.T) {
	r := newWorld(t).startReady()
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		req, err := http.NewRequest(method, r.url+"/v1/log", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-KEY", envKey)
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: got %d, want 405", method, resp.StatusCode)
		}
	}
	if status, _,
		_ := r.getRaw(envKey, "/v1/log?q="+
		strings.Repeat("x", 30_000)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("30 KB of URL: got %d, want 431", status)
	}
}

// A flood of queries and exports beside a client that never reads: all are
// answered or told to come back, and messages go on being logged.
func TestFlood(t *testing.T) {
	w := newWorld(t)
	w.queryTimeout = 50 * time.Second // on a busy machine forty queries at once take long
	r := w.startReady()
	rows := make([]Row, 2000) // 40 MB: more than sockets buffer
	for i := range rows {
		rows[i] = Row{Channel: "a", Message: strings.Repeat("full text ", 2000)}
	}
	r.fill(rows...)
	other, _, err := w.keys.Add(context.Background(), "other", keystore.Options{Channels: []string{">"},
		May: []auth.Scope{auth.Log}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the key is known", func() bool { status, _, _ := r.get(other, "limit", "1"); return status == 200 })
	for i := range maxExports {
		key := envKey
		if i == maxExportsOfKey { // which leaves room for others
			if status, header, body := r.get(key, "format", "csv"); status != 429 || header.Get("Retry-After") == "" {
				t.Errorf("one export more of a key: got %d %s, want 429", status, body[:min(len(body), 200)])
			}
		}
		if i >= maxExportsOfKey {
			key = other
		}
		conn, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("GET /v1/log?format=ndjson HTTP/1.1\r\nHost: x\r\nX-API-KEY: " + key +
			"\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		begin := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, begin); err != nil || string(begin) != "HTTP/1.1 200" {
			t.Fatalf("export: got %q, %v, want it to begin", begin, err)
		}
	}
	if status, _, _ := r.get(envKey, "format", "csv"); status != 429 {
		t.Errorf("one export more: got %d, want 429", status)
	}
	third, _, err := w.keys.Add(context.Background(), "third", keystore.Options{Channels: []string{">"},
		May: []auth.Scope{auth.Log}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the key is known", func() bool { status, _, _ := r.get(third, "limit", "1"); return status == 200 })
	if status, header, body := r.get(third, "format", "csv"); status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("one export more: got %d %s, want 503", status, body[:min(len(body), 200)])
	}
	var wg sync.WaitGroup
	codes := make([]int, 40)
	for i := range codes {
		wg.Go(func() {
			req, err := http.NewRequest(http.MethodGet, r.url+"/v1/log?limit=10&q="+url.QueryEscape("full text"), nil)
			if err != nil {
				return
			}
			req.Header.Set("X-API-KEY", envKey)
			req.Close = true
			if resp, err := http.DefaultClient.Do(req); err == nil {
				codes[i] = resp.StatusCode
				resp.Body.Close()
			}
		})
	}
	w.publish(1, 500)
	wg.Wait()
	for _, code := range codes {
		if code != 200 {
			t.Errorf("a query in the flood: got %d, want 200", code)
		}
	}
	r.eventually("messages are logged", func() bool { return r.last(w.epoch) == 500 })
}

func TestQueryThatTakesTooLong(t *testing.T) {
	w := newWorld(t)
	w.cfg.Listen = "" // set before anybody asks
	nc := w.nats.Connect()
	reg := prometheus.NewRegistry()
	s, err := New(context.Background(), w.cfg, Deps{NATS: nc, Log: natstest.Log(t), Registry: reg,
		Ops: telemetry.NewOps(reg)})
	if err != nil {
		t.Fatal(err)
	}
	if !s.open(context.Background()) {
		t.Fatal("the log does not open")
	}
	defer s.store.Close()
	s.queryTimeout = time.Nanosecond
	k, err := auth.NewKey(envKey, keystore.EnvName, []string{">"}, auth.Scopes, time.Now())
	if err == nil {
		err = s.keys.Load().Put(k)
	}
	if err != nil {
		t.Fatal(err)
	}
	router := chi.NewRouter()
	s.Mount(router)
	req := httptest.NewRequest(http.MethodGet, "/v1/log?q=full", nil)
	req.Header.Set("X-API-KEY", envKey)
	answer := httptest.NewRecorder()
	router.ServeHTTP(answer, req)
	if answer.Code != 503 || !strings.Contains(answer.Body.String(), "busy") ||
		answer.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s, want 503 that says when to come back", answer.Code, answer.Body)
	}
}

func TestMetricsLint(t *testing.T) {
	reg := prometheus.NewRegistry()
	newMetrics(reg, func() float64 { return 0 }, func() float64 { return 0 })
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: got %v, %v", problems, err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "herald_logger_") {
			t.Errorf("%s does not begin with herald_logger_", f.GetName())
		}
	}
}

func TestReadinessWithoutNATS(t *testing.T) {
	w := newWorld(t)
	r := w.startReady()
	w.nats.Stop()
	r.eventually("not ready", func() bool { return r.ops.Ready(context.Background()) != nil })
	if status, _, _ := r.getRaw("", "/healthz"); status != 200 {
		t.Errorf("healthz without NATS: got %d, want 200", status)
	}
	if status, _, _ := r.get(envKey); status != 200 {
		t.Errorf("reading the log without NATS: got %d, want 200", status)
	}
	w.nats.Restart()
	r.eventually("ready again", func() bool { return r.ops.Ready(context.Background()) == nil })
}

// A service without a listener of its own serves through Mount.
func TestInsideTheSingleBinary(t *testing.T) {
	w := newWorld(t)
	w.cfg.Listen = ""
	nc, err := natsx.Connect(natsx.Config{URL: w.nats.URL, Name: "logger"}, natstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	reg := prometheus.NewRegistry()
	s, err := New(context.Background(), w.cfg, Deps{NATS: nc, Log: natstest.Log(t), Registry: reg,
		Ops: telemetry.NewOps(reg)})
	if err != nil {
		t.Fatal(err)
	}
	if s.Addr() != nil {
		t.Errorf("address: got %v, want none", s.Addr())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	router := chi.NewRouter()
	s.Mount(router)
	w.publish(1, 1)
	natstest.Eventually(t, 30*time.Second, "the message is in the log", func() bool {
		req := httptest.NewRequest(http.MethodGet, "/v1/log?format=csv", nil)
		req.Header.Set("X-API-KEY", envKey)
		answer := httptest.NewRecorder()
		router.ServeHTTP(answer, req)
		return answer.Code == 200 && strings.Count(answer.Body.String(), "\n") == 2
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}
