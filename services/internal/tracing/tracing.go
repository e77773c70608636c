// Package tracing exports OpenTelemetry spans, if an endpoint is set, and
// reads and writes the traceparent that a message carries. It is a package of
// its own because the exporter is large: only who makes spans links it.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/herald-push/herald/services/internal/telemetry"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	// lastSpans bounds how long the spans that are not exported yet hold up
	// the end of the process: each service's own deadline leaves as much.
	lastSpans = 2 * time.Second
	// complainEvery bounds how often a collector that is away is reported; it
	// fails every few seconds.
	complainEvery = time.Minute
)

// Start starts the export of spans by OTLP over HTTP, if
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set,
// and neither OTEL_SDK_DISABLED nor OTEL_TRACES_EXPORTER=none switches it off.
// All other OTEL_ variables (sampler, headers, certificates, service name) the
// SDK reads from the environment by itself; service is the name where they
// give none. Without export the tracer is nil, and nothing runs.
//
// stop exports what is left; it is never nil, and takes 2 s at most. A
// collector that is away costs spans and a warning a minute, nothing else. The
// SDK has one place for its errors in a process, so only main calls this.
func Start(ctx context.Context, service string, env config.Env, log *slog.Logger) (tracer trace.Tracer, stop func(),
	err error) {
	stop = func() {}
	endpoint := env.Get("OTEL_EXPORTER_OTLP_ENDPOINT") + env.Get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if endpoint == "" || env.Get("OTEL_SDK_DISABLED") == "true" || env.Get("OTEL_TRACES_EXPORTER") == "none" {
		return nil, stop, nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if env.Get(name) == "grpc" {
			return nil, stop, fmt.Errorf("%s: grpc is not spoken here; want http/protobuf, usually at port 4318", name)
		}
	}
	otel.SetErrorHandler(&spanErrors{log: log})
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, stop, fmt.Errorf("tracing: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", service),
			attribute.String("service.version", telemetry.BuildVersion())),
		resource.WithFromEnv(), // last: what operators say wins
	)
	if err != nil {
		log.Warn("OTEL_RESOURCE_ATTRIBUTES is malformed", "err", err) // what could be read is there
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	log.Info("exporting spans", "name", service)
	return provider.Tracer("github.com/herald-push/herald"), func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last spans were not exported", "err", err)
		}
	}, nil
}

// spanErrors reports what the SDK complains about.
type spanErrors struct {
	log  *slog.Logger
	last atomic.Int64 // monotonic.Now of the last warning
}

func (e *spanErrors) Handle(err error) {
	now, last := monotonic.Now(), e.last.Load()
	if now-last >= int64(complainEvery) && e.last.CompareAndSwap(last, now) {
		e.log.Warn("spans are not exported", "err", err)
	}
}

// A traceparent is a W3C trace context of version 00 (W3C Trace Context
// section 3.2) as it stands in a header:
//
//	00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01

// TraceID is the trace's id in a traceparent: 32 hex digits. It is empty if
// the traceparent is malformed.
func TraceID(traceparent string) string {
	const form = "00-tttttttttttttttttttttttttttttttt-pppppppppppppppp-ff"
	if len(traceparent) != len(form) {
		return ""
	}
	for i := range len(form) {
		c := traceparent[i]
		switch form[i] {
		case '0', '-':
			if c != form[i] {
				return ""
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return ""
			}
		}
	}
	if traceparent[3:35] == noTrace || traceparent[36:52] == noTrace[:16] {
		return ""
	}
	return traceparent[3:35]
}

const noTrace = "00000000000000000000000000000000"

// Sampled reports whether a traceparent is well-formed and its trace is
// recorded.
func Sampled(traceparent string) bool {
	if TraceID(traceparent) == "" {
		return false
	}
	return strings.IndexByte("0123456789abcdef", traceparent[54])&1 == 1
}

// WithTraceparent is ctx as one in which spans have this parent, if it is
// well-formed.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

// Traceparent is that of ctx's span; empty if it has none.
func Traceparent(ctx context.Context) string {
	c := trace.SpanContextFromContext(ctx)
	if !c.IsValid() {
		return ""
	}
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}
