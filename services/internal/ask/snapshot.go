package ask

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Snapshot is what every service said of itself at one moment.
type Snapshot struct {
	Time     time.Time
	Gateways []From[GatewayStats]
	Ingests  []From[IngestStats]
	Loggers  []From[LoggerStats]
	Silent   []string // a sentence for each that did not answer, or could not
}

// Take asks all services at the same time, and waits for a second at most.
func Take(ctx context.Context, c *Client) *Snapshot {
	s := &Snapshot{Time: time.Now()}
	var silent [3][]string
	var wg sync.WaitGroup
	wg.Go(func() { s.Gateways, silent[0] = stats[GatewayStats](ctx, c, Gateway) })
	wg.Go(func() { s.Ingests, silent[1] = stats[IngestStats](ctx, c, Ingest) })
	wg.Go(func() { s.Loggers, silent[2] = stats[LoggerStats](ctx, c, Logger) })
	wg.Wait()
	s.Silent = slices.Concat(silent[:]...)
	return s
}

func stats[A any](ctx context.Context, c *Client, service string) ([]From[A], []string) {
	answers, silent, err := All[A](ctx, c, service, Stats, nil)
	if err != nil {
		silent = append(silent, fmt.Sprintf("%s: %v", service, err))
	}
	return answers, silent
}

// Figures are those of all services together. nil is not known: of what is a rate, without a moment before.
type Figures struct {
	Connections, QueueBytes, Slow   *float64
	Deliveries, Publishes, Refusals *float64 // a second
	// of the latency from ingest to socket, milliseconds; nil: nothing was delivered
	P50, P95, P99 *float64
	LogLag        *float64 // seconds
}

// Since makes the figures of a moment; rates are those since an earlier one, which may be nil.
func (s *Snapshot) Since(before *Snapshot) (f Figures) {
	if len(s.Gateways) > 0 {
		var connections, slow, queue float64
		for _, g := range s.Gateways {
			connections += float64(g.Answer.Clients())
			slow += float64(g.Answer.Slow)
			queue += float64(g.Answer.QueueBytes)
		}
		f.Connections, f.Slow, f.QueueBytes = &connections, &slow, &queue
	}
	for i := range s.Loggers {
		if lag := s.Loggers[i].Answer.Lag; f.LogLag == nil || *f.LogLag < lag {
			f.LogLag = &lag
		}
	}
	if before == nil {
		return f
	}
	var deliveries, publishes, refusals float64
	var latency Histogram
	for _, g := range s.Gateways {
		if b := answerOf(before.Gateways, g.Instance); b != nil {
			deliveries += grown(b.Deliveries, g.Answer.Deliveries)
			refusals += grown(b.Refused, g.Answer.Refused)
			latency = latency.Plus(g.Answer.Latency.Since(b.Latency))
		}
	}
	for _, i := range s.Ingests {
		if b := answerOf(before.Ingests, i.Instance); b != nil {
			publishes += grown(b.Published, i.Answer.Published)
			refusals += grown(b.Refused, i.Answer.Refused)
		}
	}
	rate := func(n float64) *float64 {
		n /= s.Time.Sub(before.Time).Seconds()
		return &n
	}
	gateways, ingests := len(s.Gateways) > 0 && len(before.Gateways) > 0, len(s.Ingests) > 0 && len(before.Ingests) > 0
	if gateways {
		f.Deliveries = rate(deliveries)
	}
	if ingests {
		f.Publishes = rate(publishes)
	}
	if gateways || ingests {
		f.Refusals = rate(refusals)
	}
	for q, into := range map[float64]**float64{0.5: &f.P50, 0.95: &f.P95, 0.99: &f.P99} {
		if v, ok := latency.Quantile(q); ok {
			v *= 1000
			*into = &v
		}
	}
	return f
}

// Clients is how many are connected, by whatever protocol.
func (g *GatewayStats) Clients() (n int) {
	for _, of := range g.Connections {
		n += of
	}
	return n
}

// answerOf is what an instance answered; nil: nothing.
func answerOf[A any](answers []From[A], instance string) *A {
	for i := range answers {
		if answers[i].Instance == instance {
			return &answers[i].Answer
		}
	}
	return nil
}

// grown is by how much a counter grew; 0 if its process began anew.
func grown(before, now uint64) float64 {
	if now < before {
		return 0
	}
	return float64(now - before)
}
