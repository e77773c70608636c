package logger

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the logger's figures.
type metrics struct {
	rows         prometheus.Counter
	redeliveries prometheus.Counter
	foreign      prometheus.Counter
	expired      prometheus.Counter
	stuck        prometheus.Gauge
	stalls       prometheus.Counter
	batch        prometheus.Histogram
	commit       prometheus.Histogram
	pending      prometheus.Gauge
	diskFull     prometheus.Gauge
	unwritable   *prometheus.GaugeVec
	holes        prometheus.Counter
	queries      *prometheus.HistogramVec
	// oldest is when the stream stored the oldest message in hand that is not
	// committed, Unix nanoseconds; 0 without any. Set by the batcher.
	oldest atomic.Int64
	// waits is the same of what the stream has for the logger and has not
	// delivered. Set by who looks at the consumer.
	waits atomic.Int64
}

// lag is how old the oldest message is that is not in the log, in seconds.
func (m *metrics) lag() float64 {
	oldest := cmp.Or(m.oldest.Load(), m.waits.Load())
	if oldest == 0 {
		return 0
	}
	return max(0, time.Since(time.Unix(0, oldest)).Seconds())
}

func newMetrics(reg prometheus.Registerer, fileBytes, holes func() float64) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "herald_logger_" + name, Help: help})
	}
	m := &metrics{
		rows:         counter("rows_total", "Messages written to the log."),
		redeliveries: counter("redeliveries_total", "Messages that came again and were in the log already."),
		foreign: counter("foreign_messages_total",
			"Messages that Herald did not make; they are logged as they are."),
		expired: counter("expired_rows_total", "Rows deleted by retention."),
		holes: counter("holes_total",
			"Packs of messages that this process found to be lost by the stream before the logger saw them."),
		stalls: counter("stalls_total",
			"Times that the stream had messages and delivered none, so that the logger asked anew."),
		batch: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_logger_batch_rows",
			Help:    "Messages of one transaction.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
		}),
		commit: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_logger_commit_seconds",
			Help:    "Time to write and sync one batch.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		stuck: f.NewGauge(prometheus.GaugeOpts{
			Name: "herald_logger_wal_stuck_bytes",
			Help: "Bytes of the write-ahead log that cannot be written back into the file, since somebody " +
				"reads it in one long transaction.",
		}),
		pending: f.NewGauge(prometheus.GaugeOpts{
			Name: "herald_logger_pending_messages",
			Help: "Packs of messages in the stream that are not acknowledged as logged yet.",
		}),
		diskFull: f.NewGauge(prometheus.GaugeOpts{
			Name: "herald_logger_disk_full",
			Help: "1 while the log has no room to grow; messages then wait in the stream.",
		}),
		unwritable: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "herald_logger_unwritable",
			Help: "1 while the log cannot be opened or written, by reason: full, denied, locked, damaged, " +
				"io or other; messages then wait in the stream.",
		}, []string{"reason"}),
		queries: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "herald_logger_query_seconds",
			Help:    "Time to answer GET /v1/log, by format.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 2.5, 5, 10, 60},
		}, []string{"format"}),
	}
	for _, reason := range store.Reasons() {
		m.unwritable.WithLabelValues(reason)
	}
	for _, format := range []string{formatJSON, formatNDJSON, formatCSV} {
		m.queries.WithLabelValues(format) // at 0 from the start, so that rates work
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_logger_missing_messages",
		Help: "Packs of messages that the stream lost before the logger saw them, as the file has counted since " +
			"it was made.",
	}, holes)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_logger_lag_seconds",
		Help: "Age of the oldest message that is in the stream and not in the log, since the stream stored " +
			"it; 0 if there is none. Clocks of different machines are compared.",
	}, m.lag)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "herald_logger_file_bytes",
		Help: "Size of the log's file and its write-ahead log.",
	}, fileBytes)
	return m
}
