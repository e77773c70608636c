package faults

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
)

// Thousands of clients lose their gateway in one moment, come to the other
// one all at once, and resume. When they have gone again, the gateway's
// memory is what it was.
func TestHerd(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 2, gatewayEnv: []string{"HERALD_LOG_LEVEL=warn"}})
	n := times(10_000, 1_000) // below the 20,000 open files that a process often may have
	names := channels(1)
	l := s.publisher.startLoad(1, times(5, 20), 100, names)
	first, other := s.gateways[0], s.gateways[1]
	before := other.settledRSS()
	s.addClients(n, dialWebSocket, []string{first.addr}, names...)
	for _, c := range s.clients {
		c.move(first.addr, other.addr)
	}
	some := func() {
		t.Helper()
		goal := s.ledger.len() + 25
		natstest.Eventually(t, time.Minute, "messages are accepted", func() bool { return s.ledger.len() >= goal })
	}
	some()
	begin := time.Now()
	first.kill()
	natstest.Eventually(t, 2*time.Minute, "the first clients notice", func() bool {
		return !slices.ContainsFunc(s.clients, func(c *client) bool { return c.ended() == 0 })
	})
	s.awaitConnected(s.clients)
	back := time.Since(begin)
	some()
	full := other.settledRSS()
	l.stop()
	s.settle(names)
	v := s.verdict()

	for _, c := range s.clients {
		c.stop()
	}
	natstest.Eventually(t, time.Minute, "the gateway has no client left",
		func() bool { return other.metric("herald_gateway_connections") == 0 })
	// A runtime gives memory back in its own time, and never all of it.
	limit := before + max(24<<20, (full-before)/5)
	var after int64
	natstest.Eventually(t, 3*time.Minute, fmt.Sprintf("the gateway's memory falls below %s, from %s; it was %s",
		mib(limit), mib(full), mib(before)), func() bool {
		after = other.settledRSS()
		return after <= limit
	})
	report(t, v, fmt.Sprintf("all back within %.1f s; memory of the other %s before, %s with them, %s once they left",
		back.Seconds(), mib(before), mib(full), mib(after)),
		"the gateway of %d clients killed, all go to the other at once", n)
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// settledRSS is the resident memory after a garbage collection.
func (s *service) settledRSS() int64 {
	s.t.Helper()
	resp, err := http.Get("http://" + s.ops + "/debug/pprof/heap?gc=1")
	if err != nil {
		s.t.Fatalf("collect garbage: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("collect garbage: %s, %v", resp.Status, err)
	}
	return s.rss()
}
