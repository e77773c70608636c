package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if arg := os.Getenv(loadVariable); arg != "" {
		if err := benchLoad(arg); err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, natstest.Leaks()...)
}

// envKey is HERALD_API_KEY in tests: all channels, the sender "env".
const envKey = "hk_2b7d0c94e6f1a83575ce"

// rig is one running ingest with everything real around it.
type rig struct {
	testing.TB
	*Service
	url    string
	client *http.Client // its connections close with the test
	reg    *prometheus.Registry
	ops    *telemetry.Ops
	check  func(method, path string, a answered) // against openapi.yaml; nil: not
	stop   func()                                // ends Run and waits for it; the test's end does so too
}

// startNATS gives a test its own server.
func startNATS(t testing.TB) *natstest.Server { t.Helper(); return natstest.Start(t) }

// start runs an ingest on the server and waits until it is ready. It stops
// with the test.
func start(t testing.TB, server *natstest.Server, change ...func(*Config, *Deps)) *rig {
	t.Helper()
	r := launch(t, server, change...)
	natstest.Eventually(t, 30*time.Second, "ingest ready", func() bool { return r.ready(t.Context()) == nil })
	return r
}

// launch is start without the waiting. Without a server, change gives it a
// connection.
func launch(t testing.TB, server *natstest.Server, change ...func(*Config, *Deps)) *rig {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg := DefaultConfig()
	cfg.Listen, cfg.APIKey, cfg.Drain = "127.0.0.1:0", envKey, 2*time.Second
	deps := Deps{Log: natstest.Log(t), Registry: reg, Ops: telemetry.NewOps(reg), Stdout: io.Discard}
	if server != nil {
		deps.NATS = attach(t, server)
	}
	for _, c := range change {
		c(&cfg, &deps)
	}
	s, err := New(t.Context(), cfg, deps)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}
	r := &rig{TB: t, Service: s, client: client, reg: reg, ops: deps.Ops, check: conforms(t),
		stop: sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		})}
	t.Cleanup(func() {
		r.stop()
		client.CloseIdleConnections()
	})
	if s.Addr() != nil {
		r.url = "http://" + s.Addr().String()
	}
	return r
}

// neverRechecks makes an ingest that does not declare a stream anew that was
// deleted.
func neverRechecks(cfg *Config, _ *Deps) { cfg.recheck = time.Hour }

// figure is the value of a metric without labels.
func (r *rig) figure(name string) float64 {
	r.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	for _, f := range families {
		if m := f.GetMetric()[0]; f.GetName() == name {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is there
		}
	}
	r.Fatalf("there is no metric %s", name)
	return 0
}

// storedMessages is how many messages this ingest has answered as stored.
func (r *rig) storedMessages() float64 {
	r.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "herald_ingest_messages_total" && m.GetLabel()[0].GetValue() == proto.StatusStored {
				return m.GetCounter().GetValue()
			}
		}
	}
	r.Fatal("messages are not counted")
	return 0
}

// dial connects; the connection closes after the service ended.
func dial(t testing.TB, server *natstest.Server) *nats.Conn {
	t.Helper()
	nc, err := natsx.Connect(natsx.Config{URL: server.URL, Name: "herald-ingest"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// attach connects as main does, also while the server is stopped.
func attach(t testing.TB, server *natstest.Server) *nats.Conn {
	t.Helper()
	nc, err := natsx.Attach(natsx.Config{URL: server.URL, Name: "herald-ingest"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("attach: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// answered is what came back.
type answered struct {
	status int
	header http.Header
	body   string
}

// post sends a request with the env key; headers are "Name: value" lines that
// may replace it ("X-API-KEY:" sends none). The answer is held against
// openapi.yaml.
func (r *rig) post(path, body string, headers ...string) answered {
	r.Helper()
	return r.do(http.MethodPost, path, strings.NewReader(body), headers...)
}

func (r *rig) do(method, path string, body io.Reader, headers ...string) answered {
	r.Helper()
	req, err := http.NewRequest(method, r.url+path, body)
	if err != nil {
		r.Fatalf("%s %s: %v", method, path, err)
	}
	req.Header.Set("X-API-KEY", envKey)
	if strings.HasPrefix(path, "/v1/messages") {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		if value == "" { // "name:"; with a blank behind it the header is there and empty
			req.Header.Del(name)
			continue
		}
		req.Header.Set(name, strings.TrimSpace(value))
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatalf("%s %s: read the answer: %v", method, path, err)
	}
	a := answered{resp.StatusCode, resp.Header, string(b)}
	if r.check != nil {
		r.check(method, path, a)
	}
	return a
}

// result decodes one result and checks the HTTP status.
func (a answered) result(t testing.TB, status int) proto.Result {
	t.Helper()
	var res proto.Result
	a.decode(t, status, &res)
	return res
}

func (a answered) results(t testing.TB, status int) []proto.Result {
	t.Helper()
	var res []proto.Result
	a.decode(t, status, &res)
	return res
}

// problem decodes a problem and checks its kind and status.
func (a answered) problem(t testing.TB, want *proto.Problem) proto.Problem {
	t.Helper()
	var p proto.Problem
	a.decode(t, want.Status, &p)
	if p.Type != want.Type || p.Status != want.Status || p.Title != want.Title {
		t.Errorf("problem: got %s %q %d, want %s %q %d", p.Type, p.Title, p.Status, want.Type, want.Title, want.Status)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type of a problem: got %q", got)
	}
	if p.Request == "" || p.Request != a.header.Get("X-Request-Id") {
		t.Errorf("request id: got %q in the problem, %q in the header", p.Request, a.header.Get("X-Request-Id"))
	}
	return p
}

func (a answered) decode(t testing.TB, status int, v any) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status: got %d, want %d; body %s", a.status, status, a.body)
	}
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("answer %s: %v", a.body, err)
	}
}

// epochs are the stream's.
func (r *rig) epochs() natsx.Epochs {
	r.Helper()
	state, err := natsx.NewReader(r.nc, nil).State(context.Background())
	if err != nil {
		r.Fatal(err)
	}
	return state.Epochs
}

// stored reads everything in the stream, in order.
func stored(t testing.TB, nc *nats.Conn) []natsx.Received {
	t.Helper()
	reader := natsx.NewReader(nc, nil)
	state, err := reader.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []natsx.Received
	for since := proto.EndOf(state.First - 1); since < proto.EndOf(state.Last); {
		page, err := reader.Read(t.Context(), natsx.Range{Names: []string{">"}, Since: since,
			UpTo: proto.EndOf(state.Last), Messages: 1000})
		if err != nil {
			t.Fatal(err)
		}
		all, since = append(all, page.Messages...), page.End
	}
	return all
}

// last is the newest stored message.
func (r *rig) last() (natsx.Received, proto.Message) {
	r.Helper()
	all := stored(r, r.nc)
	if len(all) == 0 {
		r.Fatal("nothing is stored")
	}
	m, err := proto.ParseMessage(all[len(all)-1].Body)
	if err != nil {
		r.Fatalf("stored message: %v", err)
	}
	return all[len(all)-1], m
}

// idAt is the id of the first message of a pack.
func idAt(epoch string, seq uint64) string {
	return proto.Cursor{Epoch: epoch, Seq: proto.Number(seq, 0)}.String()
}

// keys opens the key bucket.
func (r *rig) keys() *keystore.Store {
	r.Helper()
	js, err := jetstream.New(r.nc)
	if err != nil {
		r.Fatal(err)
	}
	store, err := keystore.Make(r.Context(), js, 1)
	if err != nil {
		r.Fatal(err)
	}
	return store
}

// addKey makes a key and waits until the rigs know it.
func addKey(t testing.TB, name string, o keystore.Options, rigs ...*rig) string {
	t.Helper()
	secret, _, err := rigs[0].keys().Add(t.Context(), name, o, time.Now())
	if err != nil {
		t.Fatalf("add key: %v", err)
	}
	for _, r := range rigs {
		r.awaitKey(secret, true)
	}
	return secret
}

// awaitKey waits until the ring takes the key, or does not.
func (r *rig) awaitKey(secret string, valid bool) {
	r.Helper()
	natstest.Eventually(r, 30*time.Second, "key known or gone", func() bool {
		_, err := r.ring.Authenticate(secret, time.Now())
		return (err == nil) == valid
	})
}

// lines decodes an NDJSON answer: the results, and the last line if it has
// done.
func (a answered) lines(t testing.TB) (results []proto.Result, done *doneLine) {
	t.Helper()
	for line := range bytes.Lines([]byte(a.body)) {
		if done != nil {
			t.Fatalf("a line after done: %s", line)
		}
		if bytes.HasPrefix(line, []byte(`{"done"`)) {
			if err := json.Unmarshal(line, &done); err != nil {
				t.Fatalf("line %s: %v", line, err)
			}
			continue
		}
		var res proto.Result
		if err := json.Unmarshal(line, &res); err != nil {
			t.Fatalf("line %s: %v", line, err)
		}
		results = append(results, res)
	}
	return results, done
}

type doneLine struct {
	Done           bool
	Stored, Failed int
}

func debugLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
