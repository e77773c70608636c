package ingest

import (
	"strconv"

	"github.com/herald-push/herald/proto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are ingest's figures. Labels have a handful of values each: routes,
// HTTP codes, statuses, reasons.
type metrics struct {
	requests     *prometheus.CounterVec
	messages     map[string]prometheus.Counter // by proto.Status…; never changed
	ack          prometheus.Histogram
	retries      prometheus.Counter
	authFailures *prometheus.CounterVec
}

// Reasons for which a key is refused, as label values.
const (
	reasonMissing = "missing"
	reasonUnknown = "unknown"
	reasonExpired = "expired"
)

func newMetrics(reg prometheus.Registerer, pending func() int) *metrics {
	f := promauto.With(reg)
	messages := f.NewCounterVec(prometheus.CounterOpts{
		Name: "herald_ingest_messages_total",
		Help: "Messages by what became of them; sent are ephemeral, invalid are lines of NDJSON streams.",
	}, []string{"status"})
	m := &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_ingest_requests_total",
			Help: "HTTP requests by route and code.",
		}, []string{"route", "code"}),
		messages: map[string]prometheus.Counter{},
		ack: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_ingest_ack_seconds",
			Help:    "Time from passing a message to NATS to its acknowledgement.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_ingest_retries_total",
			Help: "Attempts after the first one to store a message with an idempotency key.",
		}),
		authFailures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_ingest_auth_failures_total",
			Help: "Requests refused for their API key, by reason.",
		}, []string{"reason"}),
	}
	for _, status := range []string{proto.StatusStored, proto.StatusDuplicate, proto.StatusSent, proto.StatusFailed, proto.StatusInvalid} {
		m.messages[status] = messages.WithLabelValues(status) // at 0 from the start, so that rates work
	}
	for _, reason := range []string{reasonMissing, reasonUnknown, reasonExpired} {
		m.authFailures.WithLabelValues(reason)
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_ingest_pending_messages",
		Help: "Messages passed to NATS and not acknowledged yet; at " + strconv.Itoa(maxPending) + " ingest refuses more.",
	}, func() float64 { return float64(pending()) })
	return m
}
