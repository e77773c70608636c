package logger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
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
	switch {
	case os.Getenv(measuredRowsEnv) != "":
		logMeasured()
		return
	case childFile() != "":
		logUntilKilled()
		return
	}
	goleak.VerifyTestMain(m, natstest.Leaks()...)
}

// envKey is HERALD_API_KEY in tests: all channels.
const envKey = "hk_2b7d0c94e6f1a83575ce"

// world is a nats-server with stream and key bucket, and a place for the file.
type world struct {
	testing.TB
	nats  *natstest.Server
	nc    *nats.Conn
	js    jetstream.JetStream
	epoch string
	keys  *keystore.Store
	cfg   Config
	// broker, if set, stands between the service and JetStream.
	broker   func(jetstream.JetStream) jetstream.JetStream
	timing   timing
	unopened bool          // start does not wait for the file
	others   []string      // further NATS servers that the service knows
	late     time.Duration // of the pulse; 0: as in earnest
	// queryTimeout is how long a query may take; 0: as in earnest.
	queryTimeout time.Duration
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, nats: natstest.Start(t), timing: quick}
	w.nc = w.nats.Connect()
	w.js, w.epoch = w.nats.Stream(w.nc)
	var err error
	if w.keys, err = keystore.Make(context.Background(), w.js, 1); err != nil {
		t.Fatal(err)
	}
	w.cfg = DefaultConfig()
	w.cfg.Listen = "127.0.0.1:0"
	w.cfg.DB = filepath.Join(t.TempDir(), "data", "herald.db")
	w.cfg.APIKey = envKey
	return w
}

// running is one life of the service.
type running struct {
	*Service
	t    testing.TB
	url  string
	reg  *prometheus.Registry
	ops  *telemetry.Ops
	stop func() // and waits
}

// quick is a timing for tests that are about waiting. A batch is committed within ackWait on a busy machine, too.
var quick = timing{ackWait: 3 * time.Second, heartbeat: 500 * time.Millisecond, check: 50 * time.Millisecond,
	stall: 300 * time.Millisecond, retry: 20 * time.Millisecond}

func (w *world) start() *running {
	w.Helper()
	nc, err := natsx.Connect(natsx.Config{URL: strings.Join(append([]string{w.nats.URL}, w.others...), ","),
		Name: "logger"}, natstest.Log(w), nats.DontRandomize())
	if err != nil {
		w.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	r := &running{t: w.TB, reg: reg, ops: telemetry.NewOps(reg)}
	r.Service, err = New(context.Background(), w.cfg, Deps{NATS: nc, Log: natstest.Log(w), Registry: reg, Ops: r.ops})
	if err != nil {
		w.Fatal(err)
	}
	r.consumer.timing = w.timing
	r.queryTimeout = cmp.Or(w.queryTimeout, r.queryTimeout)
	if w.late != 0 {
		r.consumer.pulse.Late = w.late
	}
	if w.broker != nil {
		r.consumer.js = w.broker(r.consumer.js)
	}
	r.url = "http://" + r.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }() // ends in stop
	if !w.unopened {
		natstest.Eventually(w, 30*time.Second, "the log is open", r.opened.Load)
	}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.Errorf("run: %v", err)
			}
		case <-time.After(time.Minute):
			w.Error("the service does not stop")
		}
		nc.Close()
	}
	w.Cleanup(r.stop)
	return r
}

// startReady starts the service and waits until it is ready.
func (w *world) startReady() *running {
	w.Helper()
	r := w.start()
	r.eventually("ready", func() bool { return r.ops.Ready(context.Background()) == nil })
	return r
}

// publish stores n messages, numbered from first, with ids so that a retry
// stores once.
func (w *world) publish(first, n int) {
	w.Helper()
	if err := w.tryPublish(first, n); err != nil {
		w.Fatal(err)
	}
}

func (w *world) tryPublish(first, n int) error {
	_, err := natstest.Publish(w.nc, func(yield func(*nats.Msg) bool) {
		for i := first; i < first+n; i++ {
			m := proto.Message{Channel: fmt.Sprintf("orders.%d", i%3), Event: "message",
				Data: fmt.Appendf(nil, `{"n":%d}`, i), Sender: "shop", Time: proto.FormatTime(time.Now())}
			if !yield(natstest.NewMsg(&m, natstest.Headers{MsgID: fmt.Sprint(i), Source: "203.0.113.7",
				Accepted: time.Now()},
				false)) {
				return
			}
		}
	})
	return err
}

func (r *running) eventually(what string, cond func() bool) {
	r.t.Helper()
	natstest.Eventually(r.t, 5*time.Minute, what, cond)
}

// count is how many rows the file has.
func (r *running) count() int {
	r.t.Helper()
	n := 0
	if err := r.store.Export(context.Background(), Filter{}, func(*Row) error { n++; return nil }); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// last is the stream sequence of the newest row of an epoch.
func (r *running) last(epoch string) int {
	r.t.Helper()
	seq, err := r.store.LastSeq(context.Background(), epoch)
	if err != nil {
		r.t.Fatal(err)
	}
	return int(proto.PackOf(seq))
}

// metric reads the value of a counter or gauge.
func (r *running) metric(name string) float64 {
	r.t.Helper()
	v, err := gathered(r.reg, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

func gathered(reg *prometheus.Registry, name string) (float64, error) {
	families, err := reg.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue(), nil
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// get calls GET /v1/log.
func (r *running) get(key string, params ...string) (int, http.Header, []byte) {
	r.t.Helper()
	q := url.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	return r.getRaw(key, "/v1/log?"+q.Encode())
}

func (r *running) getRaw(key, path string) (int, http.Header, []byte) {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("X-API-KEY", key)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

// entries is a page that must be answered with 200.
func (r *running) entries(key string, params ...string) page {
	r.t.Helper()
	r.eventually("the keys are loaded", r.keysLoaded.Load)
	status, _, body := r.get(key, params...)
	var p page
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil || status != http.StatusOK {
		r.t.Fatalf("get %q: got %d %s, %v", params, status, body, err)
	}
	return p
}

func ids(p page) string {
	var out []string
	for _, e := range p.Messages {
		out = append(out, fmt.Sprint(e.Seq))
	}
	return strings.Join(out, " ")
}
