package faults

import (
	"fmt"
	"testing"
)

// An ingest is killed with requests under way: publishers send them again
// with the same Idempotency-Key to the other one.
func TestIngestKilled(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 2, gateways: 1})
	names := channels(20)
	s.addClients(10, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addDialects(2, s.gatewayAddrs(), names)
	kills := times(20, 4)
	l := s.publisher.startLoad(16, 800, 200, names)
	for i := range kills {
		s.flowing()
		in := s.ingests[i%2]
		in.kill()
		s.flowing()
		in.start()
		in.await()
	}
	s.flowing()
	l.stop()
	s.settle(names)
	v := s.verdict()
	if s.publisher.retries.Load() == 0 {
		t.Error("no publisher had to send a message again: the kills hit nothing")
	}
	report(t, v, fmt.Sprintf("%d attempts repeated", s.publisher.retries.Load()),
		"`kill -9` of one of two ingests, ×%d", kills)
}
