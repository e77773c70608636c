package hub

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the hub's figures; nil leaves them unregistered.
type Metrics struct{ metrics }

type metrics struct {
	deliveries    prometheus.Counter
	subscriptions prometheus.Gauge
	latency       prometheus.Histogram
}

// NewMetrics registers the hub's figures.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{metrics{
		deliveries: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_deliveries_total",
			Help: "Messages handed to connections: one message to a thousand clients counts a thousand.",
		}),
		subscriptions: f.NewGauge(prometheus.GaugeOpts{
			Name: "herald_gateway_subscriptions",
			Help: "Subscriptions to channels and patterns that connections hold now.",
		}),
		latency: f.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_gateway_latency_seconds",
			Help: "From acceptance by ingest until written to the sockets of every subscriber of one shard, " +
				"per message and shard that has any. Clocks of different machines are compared.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}),
	}}
}

func (m *Metrics) of() *metrics {
	if m == nil {
		m = NewMetrics(nil)
	}
	return &m.metrics
}
