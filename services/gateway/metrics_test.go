package gateway

import (
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Every name keeps to Prometheus' rules and to ours.
func TestMetricNames(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect("channel=a")
	c.ids(b.id(b.publish("a", "1")))
	g.dial("since=all").resumed(true, b.place(0))
	code, _ := g.dial("channel=..").closed()
	natstest.Eventually(t, patience, "the refused client is counted", func() bool {
		n, err := testutil.GatherAndCount(g.reg, "herald_gateway_connections_closed_total")
		return err == nil && n == 1
	})
	problems, err := testutil.GatherAndLint(g.reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := g.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		found[f.GetName()] = true
		if shared := []string{"herald_ready", "herald_nats_connected", "herald_stream_reachable"}; !strings.HasPrefix(
			f.GetName(), "herald_gateway_") && !slices.Contains(shared, f.GetName()) {
			t.Errorf("%s is not ours", f.GetName())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				switch l.GetName() {
				case "from", "reason", "result", "code", "service": // of which there are few values
				default:
					t.Errorf("%s has the label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
	for _, want := range []string{
		"herald_gateway_connections", "herald_gateway_connections_opened_total",
		"herald_gateway_connections_closed_total",
		"herald_gateway_deliveries_total", "herald_gateway_subscriptions", "herald_gateway_latency_seconds",
		"herald_gateway_messages_received_total", "herald_gateway_position", "herald_gateway_refused_total",
		"herald_gateway_resumes_total",
		"herald_gateway_repairs_total", "herald_gateway_lost_total", "herald_gateway_foreign_total",
		"herald_gateway_replayed_total",
	} {
		if !found[want] {
			t.Errorf("%s is missing", want)
		}
	}
	if n := testutil.ToFloat64(g.m.refused.WithLabelValues(code.String())); n != 1 {
		t.Errorf("refused for %s: %v, want 1", code, n)
	}
	natstest.Eventually(t, patience, "the position is 1", func() bool { return g.m.position.value() == 1 })
}

// gauge is what a scrape would find.
func (g *gate) gauge(name string) float64 {
	g.t.Helper()
	families, err := g.reg.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	g.t.Fatalf("nobody serves %s", name)
	return 0
}

// A gateway says by itself how far it is from the stream's end, and how old the
// newest message was: what is on its way is no distance.
func TestDistanceFromTheEnd(t *testing.T) {
	b := newBroker(t)
	b.shelf()
	g := b.gateway()
	g.becomesReady()
	c, _ := g.connect("channel=a")
	c.ids(b.id(b.publish("a", "1")), b.id(b.publish("a", "2")), b.id(b.publish("a", "3")))
	const end = 3
	// The last message reaches the client before its pack is passed.
	natstest.Eventually(t, patience, "all three are handed on", func() bool { return g.m.position.value() == end })
	g.feed.readEnd(t.Context())
	if got := g.gauge("herald_gateway_behind_messages"); got != 0 {
		t.Errorf("up to date: got a distance of %v, want 0", got)
	}
	g.m.position.Set(end - 2) // two that the stream had are not handed on
	if got := g.gauge("herald_gateway_behind_messages"); got != 2 {
		t.Errorf("two not handed on: got a distance of %v, want 2", got)
	}
	g.m.position.Set(end + 5) // five have come since the end was read
	if got := g.gauge("herald_gateway_behind_messages"); got != 0 {
		t.Errorf("ahead of what was read: got a distance of %v, want 0", got)
	}
	if got := g.gauge("herald_gateway_age_seconds"); got < 0 || got > 60 {
		t.Errorf("age of the newest message: got %v s", got)
	}
	for _, name := range []string{"herald_ready", "herald_nats_connected", "herald_stream_reachable"} {
		if got := g.gauge(name); got != 1 {
			t.Errorf("%s: got %v, want 1", name, got)
		}
	}
	b.Stop()
	natstest.Eventually(t, patience, "it says that NATS is gone", func() bool {
		return g.gauge("herald_nats_connected") == 0 && g.gauge("herald_stream_reachable") == 0 &&
			g.gauge("herald_ready") == 0
	})
}
