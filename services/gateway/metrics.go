package gateway

import (
	"math"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// figure is a number that one goroutine sets and Prometheus reads, when it
// must also be compared with another one. The zero value is 0.
type figure struct{ bits atomic.Uint64 }

func (f *figure) Set(v float64) { f.bits.Store(math.Float64bits(v)) }

func (f *figure) value() float64 { return math.Float64frombits(f.bits.Load()) }

// metrics are the gateway's own figures; hub and conn have theirs.
type metrics struct {
	received  *prometheus.CounterVec
	repaired  prometheus.Counter
	lost      prometheus.Counter
	damaged   prometheus.Counter
	foreign   prometheus.Counter
	position  figure // of the feed in the stream
	end       figure // of the stream, as it was last read, and so never ahead of it
	age       figure // of the newest message when it was handed on, seconds
	refused   *prometheus.CounterVec
	resumes   *prometheus.CounterVec
	replayed  prometheus.Counter
	overLimit prometheus.Counter
	slowed    prometheus.Counter

	compressed prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		received: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_gateway_messages_received_total",
			Help: "Messages from NATS by the way they came: live, fetched (repaired from the stream) or ephemeral.",
		}, []string{"from"}),
		repaired: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_repairs_total",
			Help: "Times that live messages were missing and were fetched from the stream.",
		}),
		lost: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_lost_total",
			Help: "Times that messages had expired before this gateway could fetch them, or that the stream " +
				"lost its newest ones; clients were told.",
		}),
		damaged: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_damaged_total",
			Help: "Packs of messages that are gone from the middle of the stream, where Herald deletes nothing; " +
				"clients got a gap frame.",
		}),
		foreign: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_foreign_total",
			Help: "NATS messages under Herald's subjects that are no Herald messages, and were ignored.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_gateway_refused_total",
			Help: "Clients refused, by reason.",
		}, []string{"reason"}),
		resumes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_gateway_resumes_total",
			Help: "Clients that came with an id, by what they got: memory, stream or the reason of the gap.",
		}, []string{"result"}),
		replayed: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_replayed_total",
			Help: "Messages sent from the stream to clients that came back.",
		}),
		overLimit: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_over_limit_total",
			Help: "Clients whose address had as many connections as it may have: refused, unless the limit " +
				"is a dry run.",
		}),
		slowed: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_slowed_seconds_total",
			Help: "Time that clients waited because their address had used its share of a processor.",
		}),
		compressed: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_gateway_compressed_total",
			Help: "Messages compressed, once for all WebSocket clients of a dialect that negotiated it.",
		}),
	}
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"herald_gateway_position", "Stream sequence of the newest pack of messages handed to the hub.",
			m.position.value},
		{"herald_gateway_behind_messages",
			"Packs of messages that the stream had some seconds ago and that this gateway has not handed on: " +
				"its distance from the stream's end.",
			func() float64 { return max(0, m.end.value()-m.position.value()) }},
		{"herald_gateway_age_seconds",
			"Age of the newest stored message when this gateway handed it on, since ingest accepted it. Clocks " +
				"of different machines are compared.", m.age.value},
	} {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, g.value)
	}
	return m
}
