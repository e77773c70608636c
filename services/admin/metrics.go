package admin

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the console's figures.
type metrics struct {
	logins    *prometheus.CounterVec
	refused   *prometheus.CounterVec
	unaudited prometheus.Counter
}

// Results of a login.
const (
	loginOK        = "ok"
	loginWrong     = "wrong"
	loginThrottled = "throttled"
	loginFailed    = "failed" // on our side
)

// Reasons of a refused call.
const (
	refusedPlace   = "place"
	refusedForgery = "forgery"
	refusedSession = "session"
	refusedRole    = "role"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		logins: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_admin_logins_total",
			Help: "Logins to the console by result: ok, wrong (user or password), throttled, or failed (NATS did " +
				"not answer).",
		}, []string{"result"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_admin_refused_total",
			Help: "Calls of the console that were refused by reason: place (not this machine), forgery (another " +
				"page, or no CSRF token), session (none, or it has ended) or role.",
		}, []string{"reason"}),
		unaudited: f.NewCounter(prometheus.CounterOpts{
			Name: "herald_admin_unaudited_total",
			Help: "Actions of administrators that could not be written into the audit; they are in the log.",
		}),
	}
	for _, result := range []string{loginOK, loginWrong, loginThrottled, loginFailed} {
		m.logins.WithLabelValues(result)
	}
	for _, reason := range []string{refusedPlace, refusedForgery, refusedSession, refusedRole} {
		m.refused.WithLabelValues(reason)
	}
	return m
}
