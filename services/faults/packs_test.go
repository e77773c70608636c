package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// patience is how long ingest keeps a message that NATS does not take: publish.Patience,
// less what it may be given up earlier with older ones of its pack.
const patience = 9 * time.Second

// plain are publishers without idempotency keys, who therefore must not send anything
// twice: single messages and arrays, in turn, to the same channels.
type plain struct {
	ledger  *ledger
	n       *atomic.Uint64 // the numbers are those of the publisher with keys, too
	ingests []string
	http    *http.Client
	dying   bool         // the ingests are killed, too: who gets no answer knows nothing
	late    atomic.Int64 // messages that were given up after patience
	unknown atomic.Int64 // messages whose publishers got no answer
	sent    atomic.Int64 // messages that were answered with 2xx
	singles atomic.Int64 // of them
}

// plain are publishers to the same ingests as the one with keys.
func (s *system) plain(dying bool) *plain {
	p := &plain{ledger: s.ledger, n: &s.publisher.n, ingests: s.publisher.ingests, dying: dying,
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}, Timeout: 3 * patience}}
	s.t.Cleanup(p.http.CloseIdleConnections)
	return p
}

// start has so many of them publish until the result is called.
func (p *plain) start(publishers int, every time.Duration, channels []string) (stop func()) {
	stopped := make(chan struct{})
	var running sync.WaitGroup
	for i := range publishers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			tick := time.NewTicker(every)
			defer tick.Stop()
			last := map[string]uint64{} // the order is that of one publisher in one channel
			for {
				select {
				case <-stopped:
					return
				case <-tick.C:
				}
				n := 1
				if random.IntN(4) == 0 {
					n = 2 + random.IntN(30)
				}
				all := make([]message, n)
				for i := range all {
					all[i] = message{n: p.n.Add(1), channel: channels[random.IntN(len(channels))], tried: time.Now()}
				}
				for i, seq := range p.publish(all) {
					if seq != 0 && seq <= last[all[i].channel] {
						p.ledger.fault("a publisher's message %d on %s got the number %d after its %d", all[i].n,
							all[i].channel, seq, last[all[i].channel])
					}
					last[all[i].channel] = max(last[all[i].channel], seq)
				}
			}
		})
	}
	return func() { close(stopped); running.Wait() }
}

// publish sends one request, and returns the numbers of what was stored.
func (p *plain) publish(all []message) []uint64 {
	items := make([]string, len(all))
	for i, m := range all {
		items[i] = fmt.Sprintf(`{"channel":%q,"data":{"n":%d,"pad":%q}}`, m.channel, m.n, strings.Repeat("x", 100))
	}
	body := items[0]
	if len(all) > 1 {
		body = "[" + strings.Join(items, ",") + "]"
	}
	p.ledger.perhaps(all) // until the answer is there
	seqs := make([]uint64, len(all))
	results, status, err := p.ask(p.ingests[int(all[0].n)%len(p.ingests)], body)
	took := time.Since(all[0].tried)
	for i, m := range all {
		switch {
		case i < len(results) && results[i].Status == proto.StatusStored:
			seqs[i] = p.ledger.accept(results[i].ID, m)
			p.sent.Add(1)
			if len(all) == 1 {
				p.singles.Add(1)
			}
		case err != nil && p.dying:
			p.unknown.Add(1)
		case err == nil && status == http.StatusServiceUnavailable && took >= patience:
			p.late.Add(1)
		default:
			p.ledger.fault("message %d without a key: got %d after %s, %v, %+v; want it stored", m.n, status,
				took.Round(time.Millisecond), err, results)
			return seqs
		}
	}
	return seqs
}

func (p *plain) ask(ingest, body string) (results []proto.Result, status int, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+ingest+"/v1/messages",
		bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("X-API-KEY", apiKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, resp.StatusCode, err
	}
	if resp.StatusCode != http.StatusOK {
		var problem proto.Problem
		if err = json.Unmarshal(answer, &problem); err == nil && problem.Type == proto.ProblemUnavailable.Type {
			time.Sleep(retryPause) // it has just been started, and has taken nothing
			return p.ask(ingest, body)
		}
		return problem.Results, resp.StatusCode, err
	}
	if body[0] != '[' {
		answer = []byte("[" + string(answer) + "]")
	}
	return results, resp.StatusCode, json.Unmarshal(answer, &results)
}

// inFlight holds back what NATS answers to ingest, and returns when a pack is stored whose
// acknowledgement is among that. It says since when nothing is answered.
func (s *system) inFlight(links ...*proxy) (begin time.Time) {
	s.t.Helper()
	s.flowing()
	begin = time.Now()
	for _, p := range links {
		p.set(func() { p.holds = true })
	}
	accepted, stored := -1, uint64(0)
	natstest.Eventually(s.t, time.Minute, "a pack is stored and not acknowledged", func() bool {
		n, last := s.ledger.len(), uint64(0)
		if info := s.streamInfo(); info != nil {
			last = info.State.LastSeq
		}
		quiet := n == accepted && last == stored
		accepted, stored = n, last
		return quiet && last > proto.PackOf(s.ledger.last())
	})
	return begin
}

// release ends inFlight: what the proxies held back arrives, or is lost with its connections.
func release(lost bool, links ...*proxy) {
	for _, p := range links {
		if lost {
			p.cut()
		}
		p.set(func() { p.holds = false })
	}
}

// newPacked is a system whose ingests, so many, reach NATS by proxies. Each ingest has
// one for each server.
func newPacked(t *testing.T, brokers, ingests int) (s *system, links []*proxy) {
	t.Helper()
	s = newBrokers(t, brokers)
	for range ingests {
		var urls []string
		for _, b := range s.brokers {
			p := newProxy(t, b.addr)
			links = append(links, p)
			urls = append(urls, "nats://"+p.addr)
		}
		s.addIngest(strings.Join(urls, ","))
	}
	s.addServices(shape{gateways: 2})
	return s, links
}

const packPublishers = 64

// Each process but ingest is killed, and acknowledgements are lost, while a pack is stored
// that is not acknowledged. 64 publishers without idempotency keys, and some with, are
// answered with 2xx in the end, and everything is there once and in order.
func TestPackInFlight(t *testing.T) {
	s, links := newPacked(t, 1, 1)
	names := channels(20)
	s.addClients(10, dialWebSocket, s.gatewayAddrs(), "public.>")
	s.addClients(10, dialWebSocket, s.gatewayAddrs(), names[:10]...)
	p := s.plain(false)
	stop := p.start(packPublishers, 100*time.Millisecond, names)
	l := s.publisher.startLoad(8, 80, 200, names)
	broker, rounds := s.brokers[0], times(5, 1)
	var longest time.Duration
	within := func(fault func()) {
		begin := s.inFlight(links...)
		fault()
		s.flowing()
		longest = max(longest, time.Since(begin))
	}
	for i := range rounds {
		within(func() { release(true, links...) }) // the acknowledgement is lost, the connection too
		within(func() {                            // NATS is killed with the acknowledgement on its way
			broker.kill()
			release(i%2 == 0, links...)
			broker.start()
			broker.await()
		})
		for _, victim := range []*service{s.gateways[i%2], s.logger} {
			within(func() {
				victim.kill()
				release(false, links...)
				victim.start()
			})
			victim.await()
		}
	}
	stop()
	l.stop()
	s.settle(names)
	if late := p.late.Load(); late > 0 && longest < patience {
		t.Errorf("%d messages were given up although no outage took longer than %s", late, longest)
	}
	if p.singles.Load() == 0 || p.singles.Load() == p.sent.Load() {
		t.Errorf("%d of %d messages were alone in their request: want some of both", p.singles.Load(), p.sent.Load())
	}
	report(t, s.verdict(), fmt.Sprintf("%d messages without an idempotency key", p.sent.Load()),
		"%d publishers: `kill -9` of NATS, gateway, logger, and lost acknowledgements, each while a pack "+
			"was stored and not acknowledged, ×%d", packPublishers, rounds)
}

// An ingest is killed while a pack of its is stored that is not acknowledged. Its
// publishers with keys ask the other one, and have every message stored once; those without
// know nothing of what was not answered: it may be there, once.
func TestIngestKilledInFlight(t *testing.T) {
	s, links := newPacked(t, 1, 2)
	names := channels(20)
	s.addClients(10, dialWebSocket, s.gatewayAddrs(), "public.>")
	p := s.plain(true)
	stop := p.start(packPublishers, 100*time.Millisecond, names)
	l := s.publisher.startLoad(16, 160, 200, names)
	kills := times(10, 2)
	for i := range kills {
		s.inFlight(links...) // both, so that nothing new comes
		in := s.ingests[i%2]
		in.kill()
		release(false, links...)
		s.flowing()
		in.start()
		in.await()
	}
	stop()
	l.stop()
	s.settle(names)
	if p.unknown.Load() == 0 {
		t.Error("every publisher was answered: the kills hit nothing")
	}
	report(t, s.verdict(), fmt.Sprintf("%d messages without a key of which nobody was told, there once or not at all",
		p.unknown.Load()),
		"`kill -9` of one of two ingests while a pack was stored and not acknowledged, ×%d", kills)
}

// The leader of a cluster is lost while a pack is in flight, whose acknowledgement is lost
// with it.
func TestLeaderLostInFlight(t *testing.T) {
	t.Parallel()
	s, links := newPacked(t, 3, 1)
	names := channels(20)
	s.addClients(10, dialWebSocket, s.gatewayAddrs(), "public.>")
	p := s.plain(false)
	stop := p.start(packPublishers, 200*time.Millisecond, names)
	l := s.publisher.startLoad(8, 80, 200, names)
	kills := times(6, 1)
	var longest time.Duration
	for i := range kills {
		leader := s.leader(-1)
		begin := s.inFlight(links...)
		s.brokers[leader].kill()
		release(i%2 == 0, links...)
		s.leader(leader)
		s.flowing()
		longest = max(longest, time.Since(begin))
		s.brokers[leader].start()
		s.brokers[leader].await()
		s.whole()
	}
	stop()
	l.stop()
	s.settle(names)
	s.await()
	if late := p.late.Load(); late > 0 && longest < patience {
		t.Errorf("%d messages were given up although no election took longer than %s", late, longest)
	}
	report(t, s.verdict(), fmt.Sprintf("%d messages without an idempotency key", p.sent.Load()),
		"three NATS servers, %d publishers: `kill -9` of the stream's leader while a pack was stored and not "+
			"acknowledged, ×%d", packPublishers, kills)
}
