package admin

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
)

// The overview and the charts come from one recorder, which asks while somebody looks, and no longer.
func TestOverviewAndCharts(t *testing.T) {
	c := start(t)
	var mu sync.Mutex
	asked, deliveries := 0, uint64(1000)
	c.serve(ask.Gateway, "g1",
		map[string]ask.Answer{ask.Stats: ask.Handle(func(context.Context, struct{}) (ask.GatewayStats, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			deliveries += 50
			return ask.GatewayStats{Process: ask.NewProcess(ask.Gateway, "g1", "v1").With(nil),
				Connections: map[string]int{"websocket": 3, "sse": 1}, Deliveries: deliveries,
				Latency: ask.Histogram{Bounds: []float64{.001, .002}, Buckets: []uint64{deliveries, deliveries},
					Count: deliveries},
				QueueBytes: 7, Slow: 1}, nil
		})})
	questions := func() int {
		mu.Lock()
		defer mu.Unlock()
		return asked
	}
	before := questions()
	b := c.as(users.Viewer)
	var o overview
	b.want(http.StatusOK, "GET", "api/overview", nil).json(t, &o)
	if o.Connections != 4 || o.ByProtocol["websocket"] != 3 || o.QueueBytes != 7 || o.Slow != 1 ||
		o.Deliveries != nil ||
		!o.NATS.Connected || o.NATS.Stream == nil || len(o.Services) != 2 || o.Services[0].Service != "admin" ||
		o.Silent == nil {
		t.Errorf("got %+v", o)
	}
	natstest.Eventually(t, 30*time.Second, "rates are known", func() bool {
		b.want(http.StatusOK, "GET", "api/overview", nil).json(t, &o)
		return o.Deliveries != nil && *o.Deliveries > 0 && o.Latency != nil && o.Latency.P99 > 0 && o.Latency.P99 <= 1
	})
	var ch charts
	b.want(http.StatusOK, "GET", "api/charts?seconds=60", nil).json(t, &ch)
	if n := len(ch.Series["connections"]); n < 2 || *ch.Series["connections"][n-1] != 4 ||
		ch.Series["deliveries"][0] != nil || ch.Series["publishes"][n-1] != nil || ch.Step != 2 ||
		ch.End.Before(ch.Since) || len(ch.Series) != 9 {
		t.Errorf("got %+v", ch)
	}
	b.want(http.StatusBadRequest, "GET", "api/charts?seconds=0", nil)
	b.want(http.StatusBadRequest, "GET", "api/charts?seconds=100000", nil)
	if questions() == before {
		t.Error("nobody was asked")
	}
	c.recorder.mu.Lock()
	c.recorder.looked = time.Now().Add(-2 * lookedFor)
	c.recorder.mu.Unlock()
	natstest.Eventually(t, 30*time.Second, "nothing is kept", func() bool {
		c.recorder.mu.Lock()
		defer c.recorder.mu.Unlock()
		return c.recorder.newest == nil && c.recorder.points == nil
	})
	b.want(http.StatusOK, "GET", "api/overview", nil).json(t, &o)
	if o.Deliveries != nil {
		t.Errorf("a rate without a moment before: %v", *o.Deliveries)
	}
}
