package admin

import (
	"net/http"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

// overview is GET api/overview. What is null is not known (yet): a rate needs two moments.
type overview struct {
	Time        time.Time      `json:"time"`
	Connections int            `json:"connections"`
	ByProtocol  map[string]int `json:"connections_by_protocol"`
	Publishes   *float64       `json:"publishes_per_second"`
	Deliveries  *float64       `json:"deliveries_per_second"`
	Latency     *latency       `json:"latency_ms"`
	QueueBytes  int64          `json:"queue_bytes"`
	Slow        int            `json:"slow"`
	LogLag      *float64       `json:"log_lag_seconds"`
	NATS        natsState      `json:"nats"`
	Services    []serviceRow   `json:"services"`
	Silent      []string       `json:"silent"`
}

type latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

type natsState struct {
	Connected bool         `json:"connected"`
	Stream    *streamState `json:"stream"`
}

// streamState is what the stream keeps. Messages are those of NATS, of which each may hold many of Herald's.
type streamState struct {
	Messages      uint64  `json:"messages"`
	Bytes         uint64  `json:"bytes"`
	FirstID       string  `json:"first_id"`
	LastID        string  `json:"last_id"`
	MaxBytes      int64   `json:"max_bytes"`
	MaxAgeSeconds float64 `json:"max_age_seconds"`
}

type serviceRow struct {
	ask.Process
	Connections *int `json:"connections,omitempty"`
}

// getOverview is how all of Herald does.
func (s *Service) getOverview(w http.ResponseWriter, r *http.Request, _ *call) error {
	now, err := s.recorder.look(r.Context())
	if err != nil {
		return err
	}
	out := overview{
		Time: now.Time.UTC(), ByProtocol: map[string]int{}, Publishes: now.point.Publishes,
		Deliveries: now.point.Deliveries, LogLag: now.point.LogLag,
		NATS: natsState{Connected: now.nats, Stream: streamOf(now.stream)}, Silent: sentences(now.Silent),
		Services: []serviceRow{{Process: s.process.With(s.deps.Ops.Ready(r.Context()))}},
	}
	if p := now.point; p.P50 != nil && p.P95 != nil && p.P99 != nil {
		out.Latency = &latency{*p.P50, *p.P95, *p.P99}
	}
	for _, g := range now.Gateways {
		n := 0
		for protocol, count := range g.Answer.Connections {
			out.ByProtocol[protocol] += count
			n += count
		}
		out.Connections += n
		out.QueueBytes += g.Answer.QueueBytes
		out.Slow += g.Answer.Slow
		out.Services = append(out.Services, serviceRow{g.Answer.Process, &n})
	}
	for _, i := range now.Ingests {
		out.Services = append(out.Services, serviceRow{Process: i.Answer.Process})
	}
	for _, l := range now.Loggers {
		out.Services = append(out.Services, serviceRow{Process: l.Answer.Process})
	}
	httpx.WriteJSON(w, http.StatusOK, out)
	return nil
}

// streamOf is what the stream says of itself; nil: nothing.
func streamOf(info *jetstream.StreamInfo) *streamState {
	if info == nil {
		return nil
	}
	out := &streamState{Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes,
		MaxAgeSeconds: info.Config.MaxAge.Seconds()}
	if info.State.Msgs > 0 {
		epochs := natsx.StateOf(info).Epochs
		id := func(pack uint64) string {
			return proto.Cursor{Epoch: epochs.At(pack), Seq: proto.Number(pack, 0)}.String()
		}
		out.FirstID, out.LastID = id(info.State.FirstSeq), id(info.State.LastSeq)
	}
	return out
}
