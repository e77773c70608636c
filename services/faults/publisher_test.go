package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
)

// publisher is a backend as PROTOCOL.md wants it: it sends each message with
// an idempotency key, again and again with the same one, to one ingest after
// the other, until it has a 2xx. Safe for concurrent use.
type publisher struct {
	ingests []string // host:port
	ledger  *ledger
	http    *http.Client

	n       atomic.Uint64 // the number of the newest message
	retries atomic.Int64  // attempts after the first
}

func newPublisher(l *ledger, ingests []string) *publisher {
	return &publisher{
		ingests: ingests, ledger: l,
		// As many connections kept as there may be publishers; whoever gets no
		// answer asks the next ingest.
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 5 * time.Second},
	}
}

// retryPause is between two attempts.
const retryPause = 50 * time.Millisecond

// publish returns the sequence of the message once it is accepted. It ends
// with an error when ctx does, or when the answer says that it is no use.
func (p *publisher) publish(ctx context.Context, channel string, size int) (uint64, error) {
	m := message{n: p.n.Add(1), channel: channel, tried: time.Now()}
	body := fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, m.n, strings.Repeat("x", size))
	for attempt := 0; ; attempt++ {
		id, again, err := p.attempt(ctx, p.ingests[(int(m.n)+attempt)%len(p.ingests)], m, body)
		if err == nil {
			return p.ledger.accept(id, m), nil
		}
		if !again || ctx.Err() != nil {
			return 0, fmt.Errorf("publish message %d, attempt %d: %w", m.n, attempt+1, err)
		}
		p.retries.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
}

// attempt posts once. again says that the message is not known to be stored
// and may be sent again.
func (p *publisher) attempt(ctx context.Context, ingest string, m message, body []byte) (id string, again bool,
	err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ingest+"/v1/channels/"+m.channel,
		bytes.NewReader(body))
	if err != nil {
		return "", false, err
	}
	req.Header.Set("X-API-KEY", apiKey)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", fmt.Sprintf("message-%d", m.n))
	resp, err := p.http.Do(req)
	if err != nil {
		return "", true, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return "", true, err
	case resp.StatusCode >= 500:
		return "", true, fmt.Errorf("%d %s", resp.StatusCode, answer)
	case resp.StatusCode != http.StatusOK:
		return "", false, fmt.Errorf("%d %s", resp.StatusCode, answer)
	}
	var res proto.Result
	if err := json.Unmarshal(answer, &res); err != nil {
		return "", false, fmt.Errorf("answer %s: %w", answer, err)
	}
	return res.ID, false, nil
}

// load is messages at a steady pace.
type load struct {
	stopped  chan struct{} // closed by stop
	finished sync.WaitGroup
	publish  context.Context // outlives stop: what was begun is to be accepted
	cancel   context.CancelFunc
}

// acceptWithin is how long a message may take to be accepted: every fault is
// over by then, and its idempotency key still known.
const acceptWithin = 90 * time.Second

// startLoad sends perSecond messages of about size bytes, by that many
// publishers, each waiting for its answer before the next; to the channels in
// turn. A publisher's messages must get ascending ids.
func (p *publisher) startLoad(publishers, perSecond, size int, channels []string) *load {
	l := &load{stopped: make(chan struct{})}
	l.publish, l.cancel = context.WithCancel(context.Background())
	every := time.Second * time.Duration(publishers) / time.Duration(perSecond)
	for i := range publishers {
		l.finished.Go(func() { // ends after stop
			tick := time.NewTicker(every)
			defer tick.Stop()
			var last uint64
			for n := i; ; n += publishers {
				select {
				case <-l.stopped:
					return
				case <-tick.C:
				}
				ctx, cancel := context.WithTimeout(l.publish, acceptWithin)
				seq, err := p.publish(ctx, channels[n%len(channels)], size)
				cancel()
				switch {
				case err != nil:
					p.ledger.fault("%v", err)
					return
				case seq <= last:
					p.ledger.fault("a publisher's message got the sequence %d after its %d", seq, last)
				}
				last = seq
			}
		})
	}
	return l
}

// stop ends the load once everything that was begun is accepted.
func (l *load) stop() {
	close(l.stopped)
	l.finished.Wait()
	l.cancel()
}
