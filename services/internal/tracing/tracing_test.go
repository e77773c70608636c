package tracing

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/config/configtest"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	sampled   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

// collect is an OTLP receiver. It returns its URL and what it has got.
func collect(t *testing.T) (url string, got func() []*collector.ExportTraceServiceRequest) {
	t.Helper()
	var mu sync.Mutex
	var all []*collector.ExportTraceServiceRequest
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &req)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("got %s, %v; want spans at /v1/traces", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, &req)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []*collector.ExportTraceServiceRequest {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// environment sets variables for this process, since the SDK reads them from
// nowhere else, and returns an environment of the same.
func environment(t *testing.T, pairs ...string) config.Env {
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		t.Setenv(pairs[i], pairs[i+1])
		values[pairs[i]] = pairs[i+1]
	}
	return configtest.Vars(values)
}

func TestTracingIsOff(t *testing.T) {
	for name, getenv := range map[string]config.Env{
		"no endpoint": environment(t),
		"disabled":    environment(t, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_SDK_DISABLED", "true"),
		"no exporter": environment(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1",
			"OTEL_TRACES_EXPORTER", "none"),
	} {
		tracer, stop, err := Start(t.Context(), "herald-test", getenv, slog.New(slog.DiscardHandler))
		if tracer != nil || err != nil {
			t.Errorf("%s: got %v, %v; want no tracer", name, tracer, err)
		}
		stop()
	}
}

func TestTracingRefusesGRPC(t *testing.T) {
	getenv := environment(t, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL",
		"grpc")
	if _, _, err := Start(t.Context(), "herald-test", getenv, slog.New(slog.DiscardHandler)); err == nil ||
		!strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_PROTOCOL") {
		t.Errorf("got %v, want an error with the variable's name", err)
	}
}

// Spans leave at the end at the latest, under the name that operators gave.
func TestTracingExports(t *testing.T) {
	for want, more := range map[string][]string{"herald-test": nil, "mine": {"OTEL_SERVICE_NAME", "mine"}} {
		t.Run(want, func(t *testing.T) {
			url, got := collect(t)
			getenv := environment(t, append(more, "OTEL_EXPORTER_OTLP_ENDPOINT", url)...)
			tracer, stop, err := Start(t.Context(), "herald-test", getenv, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ctx, span := tracer.Start(WithTraceparent(t.Context(), sampled), "work")
			if own := Traceparent(ctx); TraceID(own) != TraceID(sampled) || own == sampled || !Sampled(own) {
				t.Errorf("traceparent of the span: got %s, want one of the trace %s", own, TraceID(sampled))
			}
			span.End()
			_, span = tracer.Start(WithTraceparent(t.Context(), unsampled), "unseen")
			span.End()
			stop()
			if len(got()) != 1 || len(got()[0].ResourceSpans) != 1 ||
				len(got()[0].ResourceSpans[0].ScopeSpans[0].Spans) != 1 {
				t.Fatalf("got %v, want one span", got())
			}
			r := got()[0].ResourceSpans[0]
			if name := r.ScopeSpans[0].Spans[0].Name; name != "work" {
				t.Errorf("span: got %s, want work", name)
			}
			for _, a := range r.Resource.Attributes {
				if a.Key == "service.name" && a.Value.GetStringValue() != want {
					t.Errorf("service.name: got %s, want %s", a.Value.GetStringValue(), want)
				}
			}
		})
	}
}

// A collector that is away holds nothing up for long.
func TestTracingWithoutCollector(t *testing.T) {
	s := httptest.NewServer(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer s.Close()
	var out strings.Builder // only this goroutine logs: the end is the one export
	tracer, stop, err := Start(t.Context(), "herald-test", environment(t, "OTEL_EXPORTER_OTLP_ENDPOINT", s.URL),
		slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Start(t.Context(), "work")
	span.End()
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > lastSpans+20*time.Second || !strings.Contains(out.String(), "level=WARN") {
		t.Errorf("stop took %s, want at most %s and a warning: %s", took, lastSpans, out.String())
	}
}

func TestSpanErrorsAreRare(t *testing.T) {
	var out strings.Builder
	e := &spanErrors{log: slog.New(slog.NewTextHandler(&out, nil))}
	for range 3 {
		e.Handle(errors.New("away"))
	}
	if n := strings.Count(out.String(), "away"); n != 1 {
		t.Errorf("got %d warnings, want 1: %s", n, out.String())
	}
}

func TestTraceparent(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, c := range []struct {
		in, id  string
		sampled bool
	}{
		{sampled, id, true},
		{unsampled, id, false},
		{sampled[:53] + "03", id, true},
		{sampled[:53] + "0b", id, true},
		{sampled[:53] + "0a", id, false},
		{sampled[:53] + "f2", id, false},
		{"", "", false},
		{"01" + sampled[2:], "", false},
		{sampled + "-00", "", false},
		{sampled[:54], "", false},
		{strings.ToUpper(sampled), "", false},
		{strings.ReplaceAll(sampled, "-", "0"), "", false},
		{"00-00000000000000000000000000000000" + sampled[35:], "", false},
		{sampled[:36] + "0000000000000000-01", "", false},
		{sampled[:53] + "0g", "", false},
		{sampled[:53] + "\r\n", "", false},
		{strings.Replace(sampled, "-", "_", 1), "", false},
		{sampled[:10] + "\n" + sampled[11:], "", false},
	} {
		if got := TraceID(c.in); got != c.id {
			t.Errorf("id of %q: got %q, want %q", c.in, got, c.id)
		}
		if got := Sampled(c.in); got != c.sampled {
			t.Errorf("%q sampled: got %v, want %v", c.in, got, c.sampled)
		}
	}
	for _, want := range []string{sampled, unsampled, ""} {
		if got := Traceparent(WithTraceparent(context.Background(), want)); got != want {
			t.Errorf("through a context: got %q, want %q", got, want)
		}
	}
}
