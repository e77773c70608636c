package faults

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"testing"
)

// Two gateways behind a balancer that knows no sticky sessions: each request of a client that polls goes to the
// next gateway. One gateway is killed while messages flow, and the other one drained.
func TestPollingWithoutStickySessions(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 2})
	names := channels(20)
	b := newBalancer(t, s.gatewayAddrs())
	clients := times(200, 60)
	s.addClients(clients, dialPolling, []string{b}, "public.>")
	upgraded := times(40, 15)
	s.addClients(upgraded, dialUpgrading, []string{b}, "public.>")
	messages := times(10_000, 1_500)
	l := s.publisher.startLoad(4, 300, 200, names)
	flow := func(share int) {
		for s.ledger.len() < messages*share/4 {
			s.flowing()
		}
	}
	flow(1)
	s.gateways[0].kill()
	flow(2)
	s.gateways[0].start()
	s.gateways[0].await()
	s.gateways[1].stop()
	flow(3)
	s.gateways[1].start()
	s.gateways[1].await()
	flow(4)
	l.stop()
	s.settle(names)
	report(t, s.verdict(), "",
		"%d Socket.IO clients that poll and %d that upgrade, two gateways behind a balancer without sticky "+
			"sessions, one killed and one drained", clients, upgraded)
}

// newBalancer sends each request to the next of these addresses that takes it, and returns its own.
func newBalancer(t testing.TB, backends []string) (addr string) {
	t.Helper()
	var turn atomic.Uint64
	// Over a connection that was used before, net/http sends a GET again by itself when the gateway is killed: the
	// messages of the answer that was lost come with the next one.
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme = "http"; r.Out.URL.Host = r.In.Host },
		Transport: roundTripper(func(r *http.Request) (resp *http.Response, err error) {
			first := turn.Add(1)
			var body []byte // a round trip closes it, also one that reaches nobody
			if r.Body != nil {
				if body, err = io.ReadAll(r.Body); err != nil {
					return nil, err
				}
			}
			for i := range uint64(len(backends)) {
				r.URL.Host = backends[(first+i)%uint64(len(backends))]
				if r.Body != nil {
					r.Body = io.NopCloser(bytes.NewReader(body))
				}
				var dialling *net.OpError
				if resp, err = transport.RoundTrip(r); err == nil || !errors.As(err, &dialling) ||
					dialling.Op != "dial" {
					return resp, err
				}
			}
			return nil, err
		}),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return strings.TrimPrefix(server.URL, "http://")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
