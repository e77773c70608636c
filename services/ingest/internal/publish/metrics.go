package publish

import (
	"strconv"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the figures of what is published. Labels have a handful of values
// each.
type metrics struct {
	messages map[string]prometheus.Counter // by proto.Status…; never changed
	ack      prometheus.Histogram
	pack     prometheus.Histogram
	retries  prometheus.Counter
}

// oldest is in seconds. Clocks of different machines are compared.
func oldest(s jetstream.StreamState) float64 {
	if s.Msgs == 0 {
		return 0
	}
	return max(0, time.Since(s.FirstTime).Seconds())
}

func newMetrics(reg prometheus.Registerer, pending func() int, s *stream) *metrics {
	f := promauto.With(reg)
	messages := f.NewCounterVec(prometheus.CounterOpts{
		Name: "herald_ingest_messages_total",
		Help: "Messages by what became of them; sent are ephemeral, invalid are lines of NDJSON streams.",
	}, []string{"status"})
	m := &metrics{
		messages: map[string]prometheus.Counter{},
		ack: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_ingest_ack_seconds",
			Help:    "Time from passing a message to NATS to its acknowledgement.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		pack: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_ingest_pack_messages",
			Help:    "Messages that were stored together, as one message of NATS.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024},
		}),
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_ingest_retries_total",
			Help: "Attempts after the first one to store a pack, or a message with an idempotency key.",
		}),
	}
	for _, status := range []string{proto.StatusStored, proto.StatusDuplicate, proto.StatusSent, proto.StatusFailed,
		proto.StatusInvalid} {
		m.messages[status] = messages.WithLabelValues(status) // at 0 from the start, so that rates work
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_ingest_pending_messages",
		Help: "Messages that wait for NATS to acknowledge them; at " + strconv.Itoa(maxRoom) + " ingest refuses more.",
	}, func() float64 { return float64(pending()) })
	for _, g := range []struct {
		name, help string
		value      func(jetstream.StreamState) float64
	}{
		{"herald_ingest_stream_messages", "Messages that the stream keeps.",
			func(s jetstream.StreamState) float64 { return float64(s.Msgs) }},
		{"herald_ingest_stream_bytes", "Bytes of the messages that the stream keeps, as NATS counts them.",
			func(s jetstream.StreamState) float64 { return float64(s.Bytes) }},
		{"herald_ingest_stream_last_sequence", "Sequence of the newest message of the stream.",
			func(s jetstream.StreamState) float64 { return float64(s.LastSeq) }},
		{"herald_ingest_stream_oldest_seconds", "Age of the oldest message that the stream keeps; 0 if it keeps none.",
			oldest},
	} {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, func() float64 { return g.value(s.state()) })
	}
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"herald_ingest_stream_max_bytes", "Bytes that the stream may keep, by this ingest's settings.",
			func() float64 { return float64(s.config().MaxBytes) }},
		{"herald_ingest_stream_max_age_seconds", "How long the stream may keep messages, by this ingest's settings.",
			func() float64 { return s.config().MaxAge.Seconds() }},
		{"herald_ingest_stream_replicas", "NATS servers that are to keep the stream, by this ingest's settings.",
			func() float64 { return float64(max(1, s.config().Replicas)) }},
		{"herald_ingest_stream_current_replicas",
			"NATS servers that keep the stream and are up to date; 0 without a leader.",
			func() float64 { return float64(s.current.Load()) }},
	} {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, g.value)
	}
	return m
}
