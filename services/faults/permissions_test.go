package faults

import (
	"net/url"
	"os"
	"strings"
	"testing"
)

// The subjects that deploy/README.md allows are all that the services use, with clients of every protocol.
func TestPermissions(t *testing.T) {
	page, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "authorization { users:")
	block, _, ended := strings.Cut(block, "```")
	if !found || !ended {
		t.Fatal("deploy/README.md has no block of permissions")
	}
	const password = "of-this-test-alone"
	block = "authorization { users:" + strings.ReplaceAll(block, "$NATS_PASSWORD", password)
	s := &system{t: t, ledger: newLedger()}
	b := newBroker(t, "nats", block)
	address := url.URL{Scheme: "nats", User: url.UserPassword("herald", password), Host: b.addr}
	s.natsURL = address.String()
	b.ready = func() bool { return answers(s.natsURL) }
	b.start()
	b.await()
	s.brokers = []*service{b}
	s.addServices(shape{ingests: 1, gateways: 2})
	names := channels(20)
	balancer := []string{newBalancer(t, s.gatewayAddrs())}
	s.addClients(5, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addDialects(3, s.gatewayAddrs(), names)
	s.addSocketIO(3, balancer) // requests are passed between the gateways
	l := s.publisher.startLoad(4, 300, 200, names)
	s.flowing()
	s.gateways[0].stop()
	s.gateways[0].start()
	s.gateways[0].await()
	s.flowing()
	l.stop()
	s.settle(names)
	s.verdict()
	for _, svc := range append([]*service{b, s.logger}, append(s.ingests, s.gateways...)...) {
		if out := svc.p.Output(); strings.Contains(strings.ToLower(out), "violation") {
			t.Errorf("%s was refused something:\n%s", svc.command, out)
		}
	}
}
