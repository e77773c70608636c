package gateway

import (
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
	g.dial("since=all").resumed(true, b.id(0))
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
		if !strings.HasPrefix(f.GetName(), "herald_gateway_") {
			t.Errorf("%s is not ours", f.GetName())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				switch l.GetName() {
				case "from", "reason", "result", "code": // of which there are few values
				default:
					t.Errorf("%s has the label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
	for _, want := range []string{
		"herald_gateway_connections", "herald_gateway_connections_opened_total", "herald_gateway_connections_closed_total",
		"herald_gateway_deliveries_total", "herald_gateway_subscriptions", "herald_gateway_latency_seconds",
		"herald_gateway_messages_received_total", "herald_gateway_position", "herald_gateway_refused_total", "herald_gateway_resumes_total",
		"herald_gateway_repairs_total", "herald_gateway_lost_total", "herald_gateway_foreign_total", "herald_gateway_replayed_total",
	} {
		if !found[want] {
			t.Errorf("%s is missing", want)
		}
	}
	if n := testutil.ToFloat64(g.m.refused.WithLabelValues(code.String())); n != 1 {
		t.Errorf("refused for %s: %v, want 1", code, n)
	}
	if n := testutil.ToFloat64(g.m.position); n != 1 {
		t.Errorf("position: %v, want 1", n)
	}
}
