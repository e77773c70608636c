package ingest

import (
	"context"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Names and help of the metrics are as Prometheus wants them, and count what
// they say.
func TestMetrics(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	problems, err := testutil.GatherAndLint(r.reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	r.post("/v1/messages",
		`[{"channel":"a","data":1,"id":"k"},{"channel":"a","data":1,"id":"k"},`+
			`{"channel":"a","data":1,"ephemeral":true}]`,
	).results(t, http.StatusOK)
	r.post("/v1/messages", "nope\n{\"channel\":\"a\",\"data\":1}\n", ndjson)
	r.post("/v1/messages", `{}`).problem(t, proto.ProblemInvalidMessage)
	r.post("/v1/channels/a", `1`, "X-API-KEY:").problem(t, proto.ProblemUnauthorized)
	r.post("/v1/channels/a", `1`, "X-API-KEY: wrong").problem(t, proto.ProblemUnauthorized)
	r.post("/notify", `{}`)
	r.do(http.MethodGet, "/openapi.json", nil)
	server.Stop()
	natstest.Eventually(t, 30*time.Second, "disconnect noticed", func() bool { return !r.nc.IsConnected() })
	r.post("/v1/messages", `[{"channel":"a","data":1},{"channel":"a","data":1}]`).problem(t, proto.ProblemNotStored)
	want := `
# HELP herald_ingest_auth_failures_total Requests refused for their API key or signature, by reason.
# TYPE herald_ingest_auth_failures_total counter
herald_ingest_auth_failures_total{reason="expired"} 0
herald_ingest_auth_failures_total{reason="missing"} 1
herald_ingest_auth_failures_total{reason="signature"} 0
herald_ingest_auth_failures_total{reason="unknown"} 1
# HELP herald_ingest_messages_total Messages by what became of them; sent are ephemeral, invalid are lines of NDJSON streams.
# TYPE herald_ingest_messages_total counter
herald_ingest_messages_total{status="duplicate"} 1
herald_ingest_messages_total{status="failed"} 2
herald_ingest_messages_total{status="invalid"} 1
herald_ingest_messages_total{status="sent"} 1
herald_ingest_messages_total{status="stored"} 2
# HELP herald_ingest_pending_messages Messages that wait for NATS to acknowledge them; at 16384 ingest refuses more.
# TYPE herald_ingest_pending_messages gauge
herald_ingest_pending_messages 0
# HELP herald_ingest_requests_total HTTP requests by route and code.
# TYPE herald_ingest_requests_total counter
herald_ingest_requests_total{code="200",route="messages"} 2
herald_ingest_requests_total{code="200",route="openapi"} 1
herald_ingest_requests_total{code="400",route="messages"} 1
herald_ingest_requests_total{code="400",route="notify"} 1
herald_ingest_requests_total{code="401",route="channels"} 2
herald_ingest_requests_total{code="503",route="messages"} 1
# HELP herald_ingest_retries_total Attempts after the first one to store a pack, or a message with an idempotency key.
# TYPE herald_ingest_retries_total counter
herald_ingest_retries_total 0
`
	// A request is counted after its answer was written.
	var diff error
	begin := time.Now()
	natstest.Eventually(t, 30*time.Second, "counted, or time up", func() bool {
		diff = testutil.GatherAndCompare(r.reg, strings.NewReader(want), "herald_ingest_auth_failures_total",
			"herald_ingest_messages_total",
			"herald_ingest_pending_messages", "herald_ingest_requests_total", "herald_ingest_retries_total")
		return diff == nil || time.Since(begin) > 50*time.Second
	})
	if diff != nil {
		t.Error(diff)
	}
	if n, err := testutil.GatherAndCount(r.reg, "herald_ingest_ack_seconds"); n != 1 || err != nil {
		t.Errorf("histogram: got %d", n)
	}
}

// Of the operators' routes only the state stands on the public port, without reasons.
func TestOps(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusOK,
		"/metrics": http.StatusNotFound, "/debug/pprof/": http.StatusNotFound} {
		if a := r.do(http.MethodGet, path, nil, "X-API-KEY:"); a.status != want {
			t.Errorf("%s: got %d %s, want %d", path, a.status, a.body, want)
		}
	}
	server.Stop()
	natstest.Eventually(t, 30*time.Second, "not ready", func() bool {
		a := r.do(http.MethodGet, "/readyz", nil)
		return a.status == http.StatusServiceUnavailable && !strings.Contains(a.body, "NATS")
	})
	if a := r.do(http.MethodGet, "/healthz", nil); a.status != http.StatusOK {
		t.Errorf("/healthz: got %d without NATS, want 200", a.status)
	}
}

// A request under way when the service stops is finished; after that nobody
// is let in.
func TestDrain(t *testing.T) {
	r := start(t, startNATS(t), func(c *Config, _ *Deps) { c.Drain = 10 * time.Second })
	body := `{"channel":"a","data":1}`
	in, conn := r.raw(t, head("/v1/messages", "application/json", "Expect: 100-continue\r\nContent-Length: 24\r\n"))
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") { // it is being read
		t.Fatalf("got %q, %v", line, err)
	}
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	natstest.Eventually(t, 30*time.Second, "not ready", func() bool { return r.ready(t.Context()) != nil })
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "request under way", in, http.StatusOK)
	select {
	case <-stopped:
	case <-time.After(time.Minute):
		t.Error("the service waits longer than its requests")
	}
	if resp, err := r.client.Get(r.url + "/healthz"); err == nil {
		t.Errorf("after the stop: got %s", resp.Status)
		_ = resp.Body.Close()
	}
}

// Without a listener of its own the service works on somebody else's router.
func TestMount(t *testing.T) {
	r := start(t, startNATS(t), func(c *Config, _ *Deps) { c.Listen = "" })
	if r.Addr() != nil {
		t.Errorf("address: got %v, want none", r.Addr())
	}
	router := httpx.NewRouter(natstest.Log(t))
	router.Route("/", func(sub chi.Router) { r.Mount(sub) })
	server, err := httpx.NewServer(httpx.ServerConfig{Listen: "127.0.0.1:0"}, router, natstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { ended <- server.Run(ctx) }()
	r.url = "http://" + server.Addr().String()
	r.post("/v1/channels/user%2F1", `1`).result(t, http.StatusOK)
	in, _ := r.raw(t, head("/v1/messages", "application/x-ndjson", "Content-Length: 25\r\n")+
		"{\"channel\":\"a\",\"data\":1}\n")
	if body := wantStatus(t, "stream", in, http.StatusOK); !strings.HasSuffix(body,
		"{\"done\":true,\"stored\":1,\"failed\":0}\n") {
		t.Errorf("stream: got %s", body)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A taken port and an impossible configuration are told by New.
func TestNewRefuses(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	cfg := DefaultConfig()
	cfg.Listen = r.Addr().String()
	if _, err := New(t.Context(), cfg, Deps{NATS: dial(t, server), Log: natstest.Log(t), Registry: nil, Ops: r.ops,
		Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), cfg.Listen) {
		t.Errorf("taken port: got %v", err)
	}
	cfg.Replicas = 0
	if _, err := New(t.Context(), cfg, Deps{}); err == nil || !strings.Contains(err.Error(), "replicas") {
		t.Errorf("no replicas: got %v", err)
	}
}

// Each setting can be set by its environment variable, and a flag goes first.
func TestSettings(t *testing.T) {
	env := map[string]string{
		"HERALD_LISTEN": ":1", "HERALD_API_KEY": "k", "HERALD_TRUSTED_PROXIES": "10.0.0.0/8",
		"HERALD_STREAM_MAX_AGE": "1h", "HERALD_STREAM_MAX_BYTES": "5",
		"HERALD_REPLICAS": "3", "HERALD_MAX_MESSAGE_BYTES": "7", "HERALD_MAX_REQUEST_BYTES": "8",
		"HERALD_DRAIN":                  "9s",
		"HERALD_MAX_CONNECTIONS_PER_IP": "10", "HERALD_HOSTS": "push.example.com",
	}
	c := DefaultConfig()
	if _, err := config.Parse("ingest", []string{"-listen", ":2"}, configtest.Vars(env), nil, io.Discard,
		c.Settings()); err != nil {
		t.Fatal(err)
	}
	proxies, _ := c.TrustedProxies.MarshalText()
	if c.Listen != ":2" || c.APIKey != "k" || string(proxies) != "10.0.0.0/8" || c.StreamMaxAge != time.Hour ||
		c.StreamMaxBytes != 5 ||
		c.Replicas != 3 || c.MaxMessageBytes != 7 || c.MaxRequestBytes != 8 || c.Drain != 9*time.Second ||
		c.MaxPerIP != 10 || reflect.ValueOf(c.Hosts).IsZero() {
		t.Errorf("got %+v", c)
	}
	if n := len(c.Settings()); n != len(env) {
		t.Errorf("settings: got %d, want %d", n, len(env))
	}
}

// PROTOCOL.md's curl line is one that works.
func TestCurlLineOfProtocol(t *testing.T) {
	b, err := os.ReadFile(protoDir + "PROTOCOL.md")
	if err != nil || !strings.Contains(string(b), `curl -H "X-API-KEY: $KEY" -d 'disk full' `+
		`http://localhost:5000/v1/channels/alerts`) {
		t.Fatalf("PROTOCOL.md has another curl line: %v", err)
	}
	r := start(t, startNATS(t))
	in, _ := r.raw(t, "POST /v1/channels/alerts HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\nAccept: "+
		"*/*\r\nX-API-KEY: "+envKey+
		"\r\nContent-Length: 9\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\ndisk full")
	wantStatus(t, "curl", in, http.StatusOK)
	if _, m := r.last(); string(m.Data) != `"disk full"` {
		t.Errorf("data: got %s", m.Data)
	}
}

// The stream's figures are those of NATS: none before the stream is known, and
// then as it was read last.
func TestStreamMetrics(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	figures := func() map[string]float64 {
		families, err := r.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			if name, ok := strings.CutPrefix(f.GetName(), "herald_ingest_stream_"); ok {
				got[name] = f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return got
	}
	want := map[string]float64{"messages": 0, "bytes": 0, "last_sequence": 0, "oldest_seconds": 0,
		"max_bytes": float64(r.cfg.StreamMaxBytes), "max_age_seconds": r.cfg.StreamMaxAge.Seconds(), "replicas": 1,
		"current_replicas": 1}
	if got := figures(); !maps.Equal(got, want) {
		t.Errorf("empty: got %v, want %v", got, want)
	}
	for range 3 {
		r.post("/v1/channels/a", `1`).result(t, http.StatusOK)
	}
	purged, err := r.js.Stream(t.Context(), proto.Stream)
	if err == nil {
		err = purged.Purge(t.Context(), jetstream.WithPurgeSequence(2)) // as retention does
	}
	if err == nil {
		err = r.publisher.Recheck(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	got := figures()
	if got["messages"] != 2 || got["last_sequence"] != 3 || got["bytes"] < 100 || got["bytes"] > 2000 ||
		got["oldest_seconds"] <= 0 || got["oldest_seconds"] > 60 {
		t.Errorf("after three messages, of which one went: got %v", got)
	}
}
