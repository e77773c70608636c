package conn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	open   prometheus.Gauge
	opened prometheus.Counter
	closed *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		open: f.NewGauge(prometheus.GaugeOpts{
			Name: "herald_gateway_connections",
			Help: "Clients connected now.",
		}),
		opened: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_connections_opened_total",
			Help: "Connections accepted since the start.",
		}),
		closed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_gateway_connections_closed_total",
			Help: "Connections ended since the start, by the name of the close code.",
		}, []string{"code"}),
	}
}
