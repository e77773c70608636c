package gateway

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/tracing"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// traces reports whether trace has something to show of the current message.
func (f *feed) traces(p *natsx.Pack) bool {
	return f.log.Enabled(context.Background(), slog.LevelDebug) || f.tracer != nil &&
		tracing.Sampled(string(p.Traceparent()))
}

// trace makes a stored message visible on its way, before it is handed to the
// hub: as a debug line with the ids by which ingest and logger know it, and,
// if it comes with a sampled trace, as a span below that of its publisher. The
// span lasts until the last shard has written the message; there is one per
// message and gateway, however many clients get it.
func (f *feed) trace(m *hub.Message, traceparent string) {
	ctx := context.Background()
	if f.log.Enabled(ctx, slog.LevelDebug) {
		f.log.Debug("message received", "channel", m.Channel, "id", m.ID, "trace", tracing.TraceID(traceparent))
	}
	if f.tracer == nil || !tracing.Sampled(traceparent) {
		return
	}
	_, span := f.tracer.Start(tracing.WithTraceparent(ctx, traceparent), "deliver",
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			attribute.String("herald.channel", m.Channel), attribute.String("herald.id", m.ID),
			attribute.Int64("herald.seq", int64(m.Seq))))
	var shards, subscribers atomic.Int64
	shards.Store(int64(f.hub.Shards()))
	m.Written = func(n int) {
		subscribers.Add(int64(n))
		if shards.Add(-1) == 0 {
			span.SetAttributes(attribute.Int64("herald.subscribers", subscribers.Load()))
			span.End()
		}
	}
}
