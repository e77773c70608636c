package ask

import (
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// NewProcess is what a service says of itself, but for whether it is ready.
func NewProcess(service, instance, version string) Process {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return Process{Service: service, Instance: instance, Host: host, Version: version,
		Started: time.Now().UTC().Truncate(time.Second), Reasons: []string{}}
}

// With is the process with what its checks of readiness say: nil, or reasons, one a line.
func (p Process) With(err error) Process {
	if p.Ready = err == nil; err != nil {
		p.Reasons = strings.Split(err.Error(), "\n")
	}
	return p
}

// Counted is the value of a counter or gauge.
func Counted(m prometheus.Metric) float64 {
	var out dto.Metric
	if m.Write(&out) != nil { // never fails for a counter or gauge
		return 0
	}
	if out.Counter != nil {
		return out.Counter.GetValue()
	}
	return out.Gauge.GetValue()
}

// Observed is the state of a histogram.
func Observed(m prometheus.Metric) Histogram {
	var out dto.Metric
	if m.Write(&out) != nil { // never fails for a histogram
		return Histogram{}
	}
	h := Histogram{Count: out.Histogram.GetSampleCount()}
	for _, b := range out.Histogram.GetBucket() {
		h.Bounds = append(h.Bounds, b.GetUpperBound())
		h.Buckets = append(h.Buckets, b.GetCumulativeCount())
	}
	return h
}
