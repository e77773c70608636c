package faults

import (
	"testing"
	"time"
)

// outage is long enough for the pauses between the services' attempts to
// grow: then they come back one after the other, and a gateway that is later
// than ingest misses live messages, which it has to fetch.
const outage = 1500 * time.Millisecond

// The one NATS server of a small deployment, killed and started again over
// its file storage.
func TestBrokerKilled(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 2})
	names := channels(20)
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addClients(20, dialWebSocket, s.gatewayAddrs(), names[:10]...)
	s.addDialects(2, s.gatewayAddrs(), names)
	kills := times(10, 3)
	l := s.publisher.startLoad(8, 400, 200, names)
	for i := range kills {
		s.flowing()
		s.brokers[0].kill()
		if i%2 == 0 {
			time.Sleep(outage)
		}
		s.brokers[0].start()
		s.brokers[0].await()
	}
	s.flowing()
	l.stop()
	s.settle(names)
	s.await() // everybody is ready again by itself
	report(t, s.verdict(), "", "`kill -9` of the only NATS server, file storage, ×%d", kills)
}
