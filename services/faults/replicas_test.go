package faults

import (
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
)

// Three NATS servers with three replicas: the one that leads the stream is
// killed and comes back.
func TestStreamLeaderKilled(t *testing.T) {
	t.Parallel()
	s := newSystem(t, shape{brokers: 3, ingests: 2, gateways: 2})
	names := channels(20)
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addDialects(2, s.gatewayAddrs(), names)
	kills := times(6, 1)
	l := s.publisher.startLoad(8, 300, 200, names)
	for range kills {
		s.flowing()
		leader := s.leader(-1)
		s.brokers[leader].kill()
		s.leader(leader)
		s.flowing()
		s.brokers[leader].start()
		s.brokers[leader].await()
		s.whole()
	}
	l.stop()
	s.settle(names)
	s.await()
	report(t, s.verdict(), "", "three NATS servers, three replicas: `kill -9` of the stream's leader, ×%d", kills)
}

// Every server is restarted, one after the other, as an upgrade does.
func TestBrokersRestarted(t *testing.T) {
	t.Parallel()
	s := newSystem(t, shape{brokers: 3, ingests: 2, gateways: 2})
	names := channels(20)
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addDialects(2, s.gatewayAddrs(), names)
	rounds := times(3, 1)
	l := s.publisher.startLoad(8, 300, 200, names)
	for range rounds {
		for _, b := range s.brokers {
			s.flowing()
			s.whole()
			b.stop()
			b.start()
			b.await()
		}
	}
	s.flowing()
	l.stop()
	s.settle(names)
	s.await()
	report(t, s.verdict(), "", "rolling restart of three NATS servers, ×%d", rounds)
}

// The stream's leader is cut off from the other two: they choose another one
// and go on. Behind the one that was cut off there are a gateway, which
// catches up once it is back, and an ingest, which stores nothing meanwhile;
// both say that they are not ready.
func TestBrokerPartitioned(t *testing.T) {
	t.Parallel()
	var sum verdict
	ways := []struct {
		name string
		cut  func(*cluster, int)
	}{{"severed", (*cluster).sever}, {"silent", (*cluster).silence}}
	ways = ways[:times(2, 1)]
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) { // each with a cluster of its own, gone before the next
			v := partition(t, way.cut)
			sum.published += v.published
			sum.add(v)
		})
	}
	report(t, sum, "the gateway behind it says so, and catches up", "one of three NATS servers cut off and back, ×%d",
		len(ways))
}

func partition(t *testing.T, cut func(*cluster, int)) verdict {
	s := newBrokers(t, 3)
	s.addIngest(s.natsURL)
	s.ingests[0].await()
	cutOff := s.leader(-1)
	alone := s.brokers[cutOff].url()
	others := s.brokers[(cutOff+1)%3].url() + "," + s.brokers[(cutOff+2)%3].url()
	s.ingests[0].stop()
	s.ingests = nil
	s.addIngest(others)
	s.addIngest(alone)
	s.addGateway(others)
	s.addGateway(alone)
	s.natsURL = others
	s.addServices(shape{})
	names := channels(20)
	s.addClients(10, dialWebSocket, s.gatewayAddrs()[:1], "public.>")
	s.addClients(10, dialWebSocket, s.gatewayAddrs()[1:], "public.>")
	s.addSocketIO(2, s.gatewayAddrs()[1:])
	// Enough of them to go on while some wait for the ingest that is cut off.
	l := s.publisher.startLoad(64, 300, 200, names)
	s.flowing()
	cut(s.cluster, cutOff)
	s.leader(cutOff) // the majority goes on
	s.flowing()
	// connected all the while, to a server that knows nothing
	for _, svc := range []*service{s.gateways[1], s.ingests[1]} {
		natstest.Eventually(t, time.Minute, svc.command+" behind the server that was cut off says that it is not ready",
			func() bool { return !svc.ready() })
	}
	s.cluster.heal(cutOff)
	s.gateways[1].await()
	s.flowing()
	l.stop()
	s.settle(names)
	s.await()
	return s.verdict()
}
