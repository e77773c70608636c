package ingest

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are ingest's figures. Labels have a handful of values each: routes,
// HTTP codes, statuses, reasons.
type metrics struct {
	requests     *prometheus.CounterVec
	authFailures *prometheus.CounterVec
}

// Reasons for which a key is refused, as label values.
const (
	reasonMissing = "missing"
	reasonUnknown = "unknown"
	reasonExpired = "expired"
	// reasonSignature: a request of an app is not signed as it should be.
	reasonSignature = "signature"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_ingest_requests_total",
			Help: "HTTP requests by route and code.",
		}, []string{"route", "code"}),
		authFailures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_ingest_auth_failures_total",
			Help: "Requests refused for their API key or signature, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{reasonMissing, reasonUnknown, reasonExpired, reasonSignature} {
		m.authFailures.WithLabelValues(reason)
	}
	return m
}
