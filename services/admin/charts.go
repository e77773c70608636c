package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// step is how often everything is asked for its figures while somebody looks.
	step = 2 * time.Second
	// chartPoints is how many points the charts keep: 20 minutes.
	chartPoints = 600
	// lookedFor is after how long without a look nothing is asked or kept any more.
	lookedFor = time.Minute
	// chartDefault is how much a chart shows unless told otherwise.
	chartDefault = 10 * time.Minute
)

// recorder asks every service for its figures while somebody looks, once for all who do, and keeps them for the charts.
// Its goroutine is the only one that asks.
type recorder struct {
	s     *Service
	every time.Duration // the constant; tests make it shorter
	woken chan struct{} // holds a token when somebody begins to look; never closed

	mu     sync.Mutex
	looked time.Time     // guarded by mu; when somebody looked last
	newest *sample       // guarded by mu; nil: nobody looks, or nothing is there yet
	first  chan struct{} // guarded by mu; closed when newest is there; a new one when it is gone
	since  time.Time     // guarded by mu; when the first of points was recorded
	points []point       // guarded by mu; the newest last; at most chartPoints
}

// sample is what everybody said at one moment.
type sample struct {
	*ask.Snapshot
	nats   bool                  // it is connected
	stream *jetstream.StreamInfo // nil: it does not say
	point  point
}

// point is one moment of the charts.
type point struct {
	ask.Figures
	bytes *float64 // of the stream; nil: not known
}

func newRecorder(s *Service) *recorder {
	return &recorder{s: s, every: step, woken: make(chan struct{}, 1), first: make(chan struct{})}
}

// run asks while somebody looks, until ctx ends.
func (r *recorder) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.woken:
		}
		tick := time.NewTicker(r.every)
		for r.wanted() {
			r.sample(ctx)
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
		tick.Stop()
	}
}

// wanted reports whether somebody looked lately. If not, it forgets everything.
func (r *recorder) wanted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.looked) < lookedFor {
		return true
	}
	if r.newest != nil {
		r.newest, r.points, r.first = nil, nil, make(chan struct{})
	}
	return false
}

// look notes that somebody looks, and waits for the newest sample. The error is a problem.
func (r *recorder) look(ctx context.Context) (*sample, error) {
	r.mu.Lock()
	r.looked = time.Now()
	newest, first := r.newest, r.first
	r.mu.Unlock()
	if newest != nil {
		return newest, nil
	}
	select {
	case r.woken <- struct{}{}:
	default: // it is awake
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case <-first:
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.newest != nil {
			return r.newest, nil
		}
	case <-ctx.Done():
	}
	return nil, proto.ProblemUnavailable.With("the services have not answered yet")
}

// sample asks every service for its figures, and keeps the sums as the newest point.
func (r *recorder) sample(ctx context.Context) {
	s := r.ask(ctx)
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	missed := 0
	if r.newest != nil {
		s.point.Figures = s.Since(r.newest.Snapshot)
		missed = int((s.Time.Sub(r.newest.Time)+r.every/2)/r.every) - 1
	} else {
		s.point.Figures = s.Since(nil)
		r.since = s.Time
		close(r.first)
	}
	if s.stream != nil {
		bytes := float64(s.stream.State.Bytes)
		s.point.bytes = &bytes
	}
	for range min(missed, chartPoints) { // a moment at which nobody could be asked
		r.points = append(r.points, point{})
	}
	r.points = append(r.points, s.point)
	if over := len(r.points) - chartPoints; over > 0 {
		r.points = append([]point(nil), r.points[over:]...)
		r.since = s.Time.Add(-chartPoints * r.every)
	}
	r.newest = s
}

// ask asks everybody at the same time.
func (r *recorder) ask(ctx context.Context) *sample {
	out := &sample{nats: r.s.nc.IsConnected()}
	var wg sync.WaitGroup
	var fault error
	wg.Go(func() { out.stream, fault = r.s.streamInfo(ctx) })
	out.Snapshot = ask.Take(ctx, r.s.ask)
	wg.Wait()
	if fault != nil {
		out.Silent = append(out.Silent, "the stream "+proto.Stream+" ("+trouble(fault)+")")
	}
	return out
}

// streamTimeout bounds the question where the stream stands.
const streamTimeout = time.Second

func (s *Service) streamInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, proto.Stream)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// charts is GET api/charts.
type charts struct {
	Step   float64               `json:"step_seconds"`
	End    time.Time             `json:"end"`
	Since  time.Time             `json:"since"`
	Series map[string][]*float64 `json:"series"`
}

func (s *Service) getCharts(w http.ResponseWriter, r *http.Request, _ *call) error {
	q, err := httpx.Query(r, nil, "seconds")
	if err != nil {
		return proto.ProblemInvalidParameter.With(err.Error())
	}
	shown := chartDefault
	if v := q.Get("seconds"); v != "" {
		n, err := strconv.Atoi(v)
		if most := int(chartPoints * step / time.Second); err != nil || n < 1 || n > most {
			return proto.ProblemInvalidParameter.With(fmt.Sprintf("seconds: want a number from 1 to %d", most))
		}
		shown = time.Duration(n) * time.Second
	}
	if _, err := s.recorder.look(r.Context()); err != nil {
		return err
	}
	httpx.WriteJSON(w, http.StatusOK, s.recorder.charts(shown))
	return nil
}

// charts returns the newest points.
func (r *recorder) charts(shown time.Duration) charts {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := charts{Step: r.every.Seconds(), Since: r.since.UTC(), Series: map[string][]*float64{}}
	if r.newest != nil {
		out.End = r.newest.Time.UTC()
	}
	points := r.points[max(0, len(r.points)-int(max(1, shown/r.every))):]
	for name, of := range map[string]func(*point) *float64{
		"connections":     func(p *point) *float64 { return p.Connections },
		"deliveries":      func(p *point) *float64 { return p.Deliveries },
		"publishes":       func(p *point) *float64 { return p.Publishes },
		"latency_p50_ms":  func(p *point) *float64 { return p.P50 },
		"latency_p99_ms":  func(p *point) *float64 { return p.P99 },
		"queue_bytes":     func(p *point) *float64 { return p.QueueBytes },
		"log_lag_seconds": func(p *point) *float64 { return p.LogLag },
		"nats_bytes":      func(p *point) *float64 { return p.bytes },
		"refusals":        func(p *point) *float64 { return p.Refusals },
	} {
		values := make([]*float64, len(points)) // not nil: [] in JSON
		for i := range points {
			values[i] = of(&points[i])
		}
		out.Series[name] = values
	}
	return out
}
