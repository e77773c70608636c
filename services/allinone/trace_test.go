package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	herald "github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/proctest"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// received are spans by "service name".
type received struct {
	mu    sync.Mutex
	spans map[string]*spans.Span // guarded by mu
}

func (r *received) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	var export collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &export)
	}
	if err != nil || req.URL.Path != "/v1/traces" || req.Header.Get("Authorization") != "Bearer trace" {
		http.Error(w, fmt.Sprint("want spans, with the header: ", err), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range export.ResourceSpans {
		service := ""
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				r.spans[service+" "+s.Name] = s
			}
		}
	}
}

func (r *received) get(name string) *spans.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spans[name]
}

func attributes(s *spans.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		if out[a.Key] = a.Value.GetStringValue(); out[a.Key] == "" {
			out[a.Key] = fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return out
}

// TestTrace follows one message: its POST brings a trace, ingest's span is
// below the publisher's, the gateway's below ingest's, and its ids stand in
// the debug lines of all three services. A message without a sampled trace
// makes no span.
func TestTrace(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	const unsampled = "5bf92f3577b34da6a3ce929d0e0e4736"
	to := &received{spans: map[string]*spans.Span{}}
	receiver := httptest.NewServer(to)
	defer receiver.Close()
	nats := natstest.Start(t)
	dir := t.TempDir()
	env := []string{
		"HERALD_NATS_URL=" + nats.URL, "HERALD_API_KEY=" + testKey, "HERALD_LOG_LEVEL=debug",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + receiver.URL, "OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20trace",
		"OTEL_BSP_SCHEDULE_DELAY=50",
	}
	addr := func() string { return "127.0.0.1:" + proctest.FreePort(t) }
	ingest, gateway, logger := addr(), addr(), addr()
	in := start(t, "ingest/cmd/ingest", dir, env, "-listen", ingest)
	out := start(t, "gateway/cmd/gateway", dir, env, "-listen", gateway)
	lg := start(t, "logger/cmd/logger", dir, env, "-listen", logger, "-db", dir+"/herald.db")
	for _, a := range []string{ingest, gateway, logger} {
		proctest.Ready(t, "http://"+a)
	}
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+gateway+"/ws?channel=public.a", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.Close() }()
	if _, b, err := ws.ReadMessage(); err != nil || !strings.Contains(string(b), "welcome") {
		t.Fatalf("got %s, %v; want a welcome", b, err)
	}
	publish := func(traceparent string) (request string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, "http://"+ingest+"/v1/channels/public.a",
			strings.NewReader("secret payload"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-KEY", testKey)
		req.Header.Set("Content-Type", "text/plain")
		req.Header.Set("traceparent", traceparent)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("publish: got %s", resp.Status)
		}
		return resp.Header.Get("X-Request-Id")
	}
	publish("00-" + unsampled + "-" + parent + "-00")
	request := publish("00-" + trace + "-" + parent + "-01")
	defer http.DefaultClient.CloseIdleConnections()

	natstest.Eventually(t, 30*time.Second, "both spans arrive", func() bool {
		return to.get("herald-ingest POST /v1/channels/{channel}") != nil && to.get("herald-gateway deliver") != nil
	})
	first, second := to.get("herald-ingest POST /v1/channels/{channel}"), to.get("herald-gateway deliver")
	for _, s := range []*spans.Span{first, second} {
		if got := hex.EncodeToString(s.TraceId); got != trace {
			t.Errorf("%s: got trace %s, want %s", s.Name, got, trace)
		}
		if strings.Contains(s.String(), "secret") {
			t.Errorf("%s has the payload: %s", s.Name, s)
		}
	}
	if got := hex.EncodeToString(first.ParentSpanId); got != parent || first.Kind != spans.Span_SPAN_KIND_SERVER {
		t.Errorf("ingest's span: got parent %s, kind %s; want %s and a server's", got, first.Kind, parent)
	}
	if got := attributes(first); got["http.route"] != "/v1/channels/{channel}" ||
		got["http.response.status_code"] != "200" {
		t.Errorf("ingest's span: got %v, want route and status", got)
	}
	if string(second.ParentSpanId) != string(first.SpanId) || second.Kind != spans.Span_SPAN_KIND_CONSUMER {
		t.Errorf("the gateway's span: got parent %x, kind %s; want ingest's %x and a consumer's", second.ParentSpanId,
			second.Kind, first.SpanId)
	}
	got := attributes(second)
	if got["herald.channel"] != "public.a" || got["herald.seq"] != fmt.Sprint(herald.Number(2, 0)) ||
		got["herald.subscribers"] != "1" {
		t.Errorf("the gateway's span: got %v, want channel public.a, the number of sequence 2, one subscriber", got)
	}

	// One id leads through the logs of all three.
	id := got["herald.id"]
	for _, c := range []struct {
		p    *proctest.Process
		want []string
	}{
		{in, []string{"message published", id, `"trace":"` + trace, `"request":"` + request}},
		{out, []string{"message received", id, `"trace":"` + trace}},
		{lg, []string{"message logged", id}},
	} {
		natstest.Eventually(t, 30*time.Second, fmt.Sprintf("a line with %q", c.want), func() bool {
			for line := range strings.Lines(c.p.Output()) {
				found := true
				for _, w := range c.want {
					found = found && strings.Contains(line, w)
				}
				if found {
					return true
				}
			}
			return false
		})
	}
	_ = ws.Close()
	for _, p := range []*proctest.Process{out, lg, in} {
		p.Stop(20 * time.Second)
		if strings.Contains(p.Output(), "secret payload") {
			t.Error("a log has the payload")
		}
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	for name, s := range to.spans {
		if hex.EncodeToString(s.TraceId) == unsampled {
			t.Errorf("the trace that is not sampled has the span %s", name)
		}
	}
}
