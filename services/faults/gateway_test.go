package faults

import (
	"testing"
	"time"
)

// Two gateways, killed in turn while messages flow: clients resume on the other.
func TestGatewayKilled(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 2})
	names := channels(20)
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addClients(10, dialWebSocket, s.gatewayAddrs(), names[:10]...)
	s.addDialects(5, s.gatewayAddrs(), names)
	kills := times(10, 3)
	l := s.publisher.startLoad(4, 300, 200, names)
	for i := range kills {
		s.flowing()
		g := s.gateways[i%2]
		g.kill()
		s.flowing()
		g.start()
		g.await()
	}
	s.flowing()
	l.stop()
	s.settle(names)
	report(t, s.verdict(), "", "`kill -9` of one of two gateways, with clients of every protocol, ×%d", kills)
}

// A rolling deploy: each gateway drains, leaves and comes back.
func TestGatewaysRestarted(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 2})
	names := channels(20)
	s.addClients(30, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addDialects(5, s.gatewayAddrs(), names)
	rounds := times(5, 1)
	l := s.publisher.startLoad(4, 300, 200, names)
	for range rounds {
		for _, g := range s.gateways {
			s.flowing()
			g.stop()
			g.start()
			g.await()
		}
	}
	s.flowing()
	l.stop()
	s.settle(names)
	v := s.verdict()
	// A client that is told to leave comes back at once. Its pauses are those after handshakes that the gateway that is
	// away, or drains by now, refuses; they grow, since no connection lasts long here. One that waited for a heartbeat
	// would take 46 seconds.
	if bearable := 40 * time.Second; v.stall > bearable {
		t.Errorf("%s stalled for %s, want at most %s", v.stalled, v.stall, bearable)
	}
	t.Logf("the longest stall, of %s: %s", v.stalled, v.stall)
	report(t, v, "", "rolling restart of two gateways (SIGTERM), with clients of every protocol, ×%d", rounds)
}
