package gateway

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// known is how many connections of the address a gateway knows of, everywhere.
func (g *gate) known(ip netip.Addr) int {
	g.ips.mu.Lock()
	defer g.ips.mu.Unlock()
	return g.ips.count[httpx.AddressGroup(ip)] + g.ips.elsewhere(httpx.AddressGroup(ip))
}

// knows waits until every gateway knows of n connections.
func knows(t *testing.T, n int, gates ...*gate) {
	t.Helper()
	for i, g := range gates {
		natstest.Eventually(t, patience, fmt.Sprintf("gateway %d knows of %d connections", i, n),
			func() bool { return g.known(loopback) == n })
	}
}

// Two gateways admit together what one would; one that comes later learns
// what there is at once, and one that has left no longer counts.
func TestLimitAcrossGateways(t *testing.T) {
	const limit = 10
	b := newBroker(t)
	limited := func(c *Config) { c.MaxPerIP = limit }
	one, other := b.gateway(limited), b.gateway(limited)
	gates := []*gate{one, other}
	var clients []*client
	for i := range limit {
		c, _ := gates[i%2].connect("")
		clients = append(clients, c)
		knows(t, i+1, gates...)
	}
	late := b.gateway(limited)
	gates = append(gates, late)
	knows(t, limit, late)
	for i, g := range gates {
		if code, f := g.dial("").closed(); code != proto.CloseTooManyConnections ||
			f.Detail != "this IP address has 10 connections already" {
			t.Errorf("gateway %d: got %v, %s", i, code, f.raw)
		}
	}
	if lines := other.log.With("client connected"); lines[len(lines)-1]["ip_connections"] != 10.0 {
		t.Errorf("got %v, want the connections on all gateways", lines[len(lines)-1])
	}

	_ = clients[0].ws.Close()
	knows(t, limit-1, gates...)
	late.connect("")
	knows(t, limit, gates...)

	if err := other.stop(); err != nil { // its five leave
		t.Fatal(err)
	}
	knows(t, limit-limit/2, one, late)
	one.connect("")
}

// Without the bus each gateway admits what it would alone; when it is back
// they count together again.
func TestLimitFailsOpen(t *testing.T) {
	b := newBroker(t)
	limited := func(c *Config) { c.MaxPerIP = 1 }
	one, other := b.gateway(limited), b.gateway(limited)
	one.connect("")
	knows(t, 1, one, other)
	b.Stop()
	knows(t, 0, other)
	other.connect("")
	b.Restart()
	knows(t, 2, one, other)
}

func TestLimitDryRun(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.MaxPerIP, c.LimitDryRun = 2, true })
	for range 5 {
		g.connect("")
	}
	if n := testutil.ToFloat64(g.m.overLimit); n != 3 {
		t.Errorf("over the limit: got %v, want 3", n)
	}
}

// Reports may overtake each other, come from gateways that die, or be none.
func TestReports(t *testing.T) {
	l := newPerIP(100, false)
	l.shared = true
	ip := netip.MustParseAddr("2001:db8::1")
	hear := func(gateway string, version uint64, n int) {
		l.received(report{Gateway: gateway, Version: version,
			Counts: map[string]int{httpx.AddressGroup(ip).String(): n}})
	}
	hear("a", 2, 7)
	hear("a", 1, 50) // was overtaken
	hear("b", 1, 3)
	l.received(report{Gateway: "c", Version: 1, Counts: map[string]int{"nonsense": 9,
		httpx.AddressGroup(ip).String(): -4}})
	if n := l.elsewhere(httpx.AddressGroup(ip)); n != 10 {
		t.Errorf("got %d elsewhere, want 10", n)
	}
	for g, c := range l.others[httpx.AddressGroup(ip)] {
		c.heard = c.heard.Add(-forgetAfter)
		l.others[httpx.AddressGroup(ip)][g] = c
	}
	hear("b", 2, 4)
	if n := l.elsewhere(httpx.AddressGroup(ip)); n != 4 {
		t.Errorf("after a has gone silent: got %d, want 4", n)
	}
	if l.forget(); len(l.others[httpx.AddressGroup(ip)]) != 1 {
		t.Errorf("got %v, want b alone", l.others)
	}

	s := &sharing{ips: l, id: "me", known: map[string]time.Time{"you": {}}}
	for _, data := range []string{"", "{", `{"gateway":"me","counts":{"192.0.2.1/32":5}}`,
		`{"counts":{"192.0.2.1/32":5}}`, `[]`} {
		s.receive(&nats.Msg{Data: []byte(data)})
	}
	if n := l.elsewhere(httpx.AddressGroup(netip.MustParseAddr("192.0.2.1"))); n != 0 {
		t.Errorf("from reports that are none, or its own: got %d", n)
	}
	s.known["they"] = time.Time{}
	if s.receive(&nats.Msg{Data: []byte(`{"gateway":"they"}`)}); s.alone() || s.gateways() != 0 {
		t.Errorf("before it asked around it knows of %d gateways, alone: %t", s.gateways(), s.alone())
	}
	s.begun.Store(monotonic.Now() - int64(2*acquainted))
	if n := s.gateways(); n != 3 {
		t.Errorf("it knows of %d gateways, want itself and two others", n)
	}
	s.known["they"], s.known["you"] = time.Time{}, time.Time{}
	if s.forget(); !s.alone() || s.gateways() != 1 {
		t.Errorf("when all others are silent it knows of %d gateways", s.gateways())
	}
}

// Only who comes near the limit is worth a report, and what does not fit into
// one goes into several.
func TestReportsAreFew(t *testing.T) {
	said := 0
	l := newPerIP(1000, false)
	l.shared, l.send = true, func(report) { said++ }
	ip := netip.MustParseAddr("192.0.2.1")
	for range 9 {
		l.add(ip)
	}
	if said != 0 {
		t.Errorf("%d reports of 9 connections, where 1000 are allowed", said)
	}
	l.add(ip)
	l.remove(ip)
	if said != 2 {
		t.Errorf("got %d reports, want one when the tenth came and one when it went", said)
	}
	l.tell = 1
	for i := range 2*reportGroups + 1 {
		l.add(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	reports, groups := l.all(), 0
	for _, r := range reports {
		groups += len(r.Counts)
		if b, err := json.Marshal(r); err != nil || len(b) > 64<<10 {
			t.Errorf("a report of %d bytes, %v", len(b), err)
		}
	}
	if len(reports) != 3 || groups != 2*reportGroups+2 {
		t.Errorf("got %d reports of %d groups", len(reports), groups)
	}
}
