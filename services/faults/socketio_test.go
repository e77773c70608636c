package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

// Two gateways behind a balancer that knows no sticky sessions: each request of a client that polls goes to the
// next gateway. One gateway is killed while messages flow, and the other one drained.
func TestPollingWithoutStickySessions(t *testing.T) {
	s := newSystem(t, shape{brokers: 1, ingests: 1, gateways: 2})
	names := channels(20)
	b := newBalancer(t, s.gatewayAddrs())
	clients := times(200, 60)
	s.addClients(clients, dialPolling, []string{b}, "public.>")
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
	report(t, s.verdict(), "", "%d Socket.IO clients that poll, two gateways behind a balancer without sticky sessions, one killed and one drained", clients)
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
			for i := range uint64(len(backends)) {
				r.URL.Host = backends[(first+i)%uint64(len(backends))]
				var dialling *net.OpError
				if resp, err = transport.RoundTrip(r); err == nil || !errors.As(err, &dialling) || dialling.Op != "dial" {
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

// polling is a stream over Engine.IO's long-polling. What the client keeps is its id, which it says in CONNECT as since.
type polling struct {
	url    string
	turns  int // requests; each has a number of its own, as with stock clients
	since  string
	http   *http.Client
	ctx    context.Context
	cut    context.CancelFunc
	frames [][]byte // that came and were not given out yet
	begun  bool     // the welcome was given out
}

func dialPolling(ctx context.Context, gateway string, query url.Values) (stream, error) {
	p := &polling{url: "http://" + gateway + "/socket.io/?EIO=4&transport=polling", since: query.Get("since"), http: &http.Client{Transport: &http.Transport{}}}
	// ctx is for dialling; the requests live as long as the stream.
	p.ctx, p.cut = context.WithCancel(context.Background())
	defer context.AfterFunc(ctx, p.cut)()
	b, err := p.do(http.MethodGet, "")
	if err == nil {
		var greeting struct{ SID string }
		if err = json.Unmarshal(bytes.TrimPrefix(b, []byte("0")), &greeting); err == nil {
			p.url += "&sid=" + greeting.SID
			auth := map[string]any{"channels": query["channel"], "details": true}
			if p.since != "" {
				auth["since"] = p.since
			}
			connect, _ := json.Marshal(auth)
			_, err = p.do(http.MethodPost, "40"+string(connect))
		}
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// patience is longer than a heartbeat, after which every GET is answered.
const patience = time.Minute

func (p *polling) do(method, body string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	p.turns++
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("%s&t=%d", p.url, p.turns), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := p.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", resp.Status, b)
	}
	return b, err
}

func (p *polling) next() ([]byte, error) {
	for len(p.frames) == 0 {
		b, err := p.do(http.MethodGet, "")
		if err != nil {
			return nil, err
		}
		for packet := range strings.SplitSeq(string(b), "\x1e") {
			if err := p.packet(packet); err != nil {
				return nil, err
			}
		}
	}
	frame := p.frames[0]
	p.frames = p.frames[1:]
	return frame, nil
}

// packet turns one Engine.IO packet into frames of PROTOCOL.md.
func (p *polling) packet(packet string) error {
	switch {
	case packet == "2":
		_, err := p.do(http.MethodPost, "3")
		return err
	case packet == "6":
		return nil
	case packet == "1":
		return closeError(proto.CloseGoingAway)
	case strings.HasPrefix(packet, "42"):
		if p.since != "" {
			p.welcome(p.since) // what was missed comes before the namespace
		}
		return p.event(packet[2:])
	case strings.HasPrefix(packet, "40"):
		return nil
	}
	return fmt.Errorf("%w: packet %.200s", closeError(proto.CloseProtocolError), packet)
}

func (p *polling) welcome(id string) {
	if !p.begun {
		p.begun = true
		p.put(map[string]any{"type": proto.FrameWelcome, "heartbeat": 25, "id": id})
	}
}

func (p *polling) put(frame any) {
	b, _ := json.Marshal(frame) // plain values always marshal
	p.frames = append(p.frames, b)
}

func (p *polling) event(array string) error {
	var all []json.RawMessage
	if err := json.Unmarshal([]byte(array), &all); err != nil {
		return err
	}
	var name string
	if err := json.Unmarshal(all[0], &name); err != nil {
		return err
	}
	switch name {
	case "herald:place":
		var id string
		if err := json.Unmarshal(all[1], &id); err != nil {
			return err
		}
		p.welcome(id)
	case "herald:gap":
		p.frames = append(p.frames, all[1])
	case "error":
		return fmt.Errorf("%w: %s", closeError(proto.CloseProtocolError), array)
	default:
		var details struct{ ID, Channel string }
		if err := json.Unmarshal(all[2], &details); err != nil {
			return err
		}
		p.put(map[string]any{"id": details.ID, "channel": details.Channel, "data": all[1]})
	}
	return nil
}

func (p *polling) send(any) error { return errUnsupported }
func (p *polling) heartbeat(int)  {}

func (p *polling) close() {
	p.cut()
	p.http.CloseIdleConnections()
}
