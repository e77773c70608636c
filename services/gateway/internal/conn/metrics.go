package conn

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	open   prometheus.Gauge
	opened prometheus.Counter
	closed *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_gateway_connections",
			Help: "Clients connected now.",
		}),
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_connections_opened_total",
			Help: "Connections accepted since the start.",
		}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_gateway_connections_closed_total",
			Help: "Connections ended since the start, by the name of the close code.",
		}, []string{"code"}),
	}
	if reg != nil {
		reg.MustRegister(m.open, m.opened, m.closed)
	}
	return m
}
