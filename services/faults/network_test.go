package faults

import (
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
)

// Clients behind a network that delays, narrows, cuts and freezes. The last
// one is told by nobody: both ends notice it by their heartbeats.
func TestNetwork(t *testing.T) {
	const heartbeat = time.Second
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 2,
		gatewayEnv: []string{"HERALD_HEARTBEAT=" + heartbeat.String()}})
	var proxies []*proxy
	var behind []string
	for _, g := range s.gateways {
		p := newProxy(t, g.addr)
		proxies = append(proxies, p)
		behind = append(behind, p.addr)
	}
	each := func(do func(*proxy)) {
		for _, p := range proxies {
			do(p)
		}
	}
	names := channels(20)
	clients := s.addClients(20, dialWebSocket, behind, "public.>")
	clients = append(clients, s.addClients(5, dialWebSocket, behind, "public.quiet")...)
	clients = append(clients, s.addSocketIO(2, behind)...)
	const direct = 5
	s.addClients(direct, dialWebSocket, s.gatewayAddrs(), "public.>") // the others, whom none of it concerns
	rounds := times(5, 1)
	l := s.publisher.startLoad(4, 300, 200, names)
	for range rounds {
		each(func(p *proxy) { p.shape(30*time.Millisecond, 0) })
		s.flowing()
		each(func(p *proxy) { p.shape(0, narrow) })
		s.flowing()
		each(func(p *proxy) { p.shape(0, narrow/2) })
		s.flowing()
		each(func(p *proxy) { p.shape(0, 0) })
		for _, p := range proxies {
			p.cut()
			s.flowing()
		}
		s.awaitConnected(clients)
		before := s.timedOut()
		each((*proxy).freeze)
		natstest.Eventually(t, time.Minute, "the gateways notice that every client is gone, busy or quiet",
			func() bool {
				return s.timedOut() > before && s.online() == direct
			})
		natstest.Eventually(t, time.Minute, "every client notices that its gateway is gone", func() bool {
			for _, c := range clients {
				if c.connected() {
					return false
				}
			}
			return true
		})
		each((*proxy).thaw)
		s.awaitConnected(clients)
	}
	s.flowing()
	l.stop()
	s.settle(append(names, "public.quiet"))
	report(t, s.verdict(), "", "a network that delays, narrows, cuts, and freezes until heartbeats notice, ×%d", rounds)
}

// narrow is bytes a second for each direction of a connection: a little more
// than the load needs; half of it is less.
const narrow = 150 << 10

// online counts the clients that gateways have.
func (s *system) online() (n int) {
	s.t.Helper()
	for _, g := range s.gateways {
		n += int(g.metric("herald_gateway_connections"))
	}
	return n
}

// timedOut counts the clients that gateways gave up for their silence.
func (s *system) timedOut() float64 {
	s.t.Helper()
	sum := 0.0
	for _, g := range s.gateways {
		sum += g.metric(`herald_gateway_connections_closed_total{code="heartbeat-timeout"}`)
	}
	return sum
}
