package faults

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
)

// One client in a hundred, and one of each other dialect over a socket of its own, stops reading. The
// others must not notice; it is closed as a slow consumer, and misses nothing once it reads again. One
// that polls does not read if it sends no GET.
func TestSlowClients(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 1, gatewayEnv: []string{"HERALD_MAX_QUEUE_BYTES=262144"}})
	names := channels(10)
	n := times(300, 100)
	others := s.addClients(n-n/100, dialWebSocket, s.gatewayAddrs(), "public.>")
	slow := s.addClients(n/100, dialSlow, s.gatewayAddrs(), "public.>")
	for _, dial := range []dialer{dialSlowSocketIO, dialPolling} {
		slow = append(slow, s.addClients(1, dial, s.gatewayAddrs(), "public.>")...)
	}
	s.addApp()
	slow = append(slow, s.addClients(1, dialSlowPusher, s.gatewayAddrs(), names[0])...)
	others = append(others, s.addClients(3, dialSocketIO, s.gatewayAddrs(), "public.>")...)
	others = append(others, s.addClients(3, dialPusher, s.gatewayAddrs(), names[1])...)
	each := times(3000, 500) // messages of each part
	l := s.publisher.startLoad(4, 100, 4_000, names)
	part := func(until func() bool) (from, to uint64) {
		from = s.last()
		goal := s.ledger.len() + each
		natstest.Eventually(t, 5*time.Minute, "enough messages", func() bool {
			return s.ledger.len() >= goal && until()
		})
		return from, s.last()
	}
	from, to := part(func() bool { return true })
	without := s.percentile(others, 0.99, from, to)

	for _, c := range slow {
		c.read(false)
	}
	from, to = part(func() bool {
		closed := s.gateways[0].metric(`herald_gateway_connections_closed_total{code="slow-consumer"}`)
		return closed >= float64(len(slow))
	})
	with := s.percentile(others, 0.99, from, to)
	for _, c := range slow {
		c.read(true)
	}
	l.stop()
	s.settle(names)
	for _, c := range others {
		if len(c.codes) > 0 {
			t.Errorf("%s: its connection ended (%v), and it was none of the slow ones", c.name, c.codes)
		}
	}
	// A client that held others up would do so until it is closed, for ten seconds; a machine that is busy with
	// other things takes less.
	if bound := 3*without + 5*time.Second; with > bound {
		t.Errorf("p99 of the others: got %s while some do not read, and %s before, want at most %s", with,
			without, bound)
	}
	report(t, s.verdict(), fmt.Sprintf("p99 from publish to delivery for the others %d ms, without it %d ms",
		with.Milliseconds(), without.Milliseconds()),
		"one client in a hundred stops reading, of %d, and one of each transport of Socket.IO and of Pusher", n)
}

// last is the newest sequence that was accepted.
func (s *system) last() uint64 {
	var last uint64
	for _, seq := range s.ledger.newest() {
		last = max(last, seq)
	}
	return last
}

// percentile is that of the time from a publisher's first attempt until the
// delivery, over all deliveries to these clients after one sequence up to
// another.
func (s *system) percentile(clients []*client, share float64, from, to uint64) time.Duration {
	s.t.Helper()
	var all []time.Duration
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	for _, c := range clients {
		c.mu.Lock()
		for _, r := range c.got {
			if m, ok := s.ledger.messages[r.seq]; ok && r.seq > from && r.seq <= to {
				all = append(all, time.Duration(r.at-m.tried.UnixNano()))
			}
		}
		c.mu.Unlock()
	}
	if len(all) == 0 {
		s.t.Fatalf("nothing was delivered between %d and %d", from, to)
	}
	slices.Sort(all)
	return all[int(share*float64(len(all)-1))]
}
