package gateway

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// shares is what each address may cost, whatever its clients ask for: time of a
// processor, and memory for subscriptions. Who asks for more waits, or is
// refused; others do not notice. Safe for concurrent use.
type shares struct {
	// Fixed after newShares.
	maxNames int     // the constant; tests make it smaller
	slowness float64 // of this processor

	unlimited atomic.Bool // as where connections per address are not limited

	mu    sync.Mutex
	of    map[netip.Prefix]*share // guarded by mu
	swept time.Time               // guarded by mu
}

// share is what one address costs now.
type share struct {
	debt  time.Duration // of work, as far as it was not paid off at the time below
	at    time.Time
	names int // bytes of its clients' subscriptions: see weight
}

const (
	// shareOfProcessor is the part of one processor that an address may use for
	// long, and shareAhead how much work it may be ahead: two thousand clients
	// that come back at once.
	shareOfProcessor = 0.25
	shareAhead       = 250 * time.Millisecond
	// maxNames is how many bytes the subscriptions of an address may take: 64
	// connections with all that one may have, or 2000 with fifty each.
	maxNames = 32 << 20
	// sweepEvery is how often addresses that cost nothing any more are forgotten.
	sweepEvery = 10 * time.Second
)

// What a client's requests cost on a processor that needs referenceFrame for a
// frame: rounded up, with the system calls of the answers.
const (
	handshakeCost = 100 * time.Microsecond
	tokenCost     = 100 * time.Microsecond // a signature, of whatever kind
	frameCost     = 15 * time.Microsecond
	byteCost      = 40 * time.Nanosecond // of a frame: to inflate and to parse it
	nameCost      = 25 * time.Microsecond
	followedCost  = 10 * time.Nanosecond // of each subscription that there is, for each name
	scanCost      = 250 * time.Nanosecond
	replayCost    = 5 * time.Microsecond
	pageCost      = time.Millisecond // of each name that is read from the stream
)

// referenceFrame is how long one core of an EPYC guest takes to parse the
// frame of slowness.
const referenceFrame = 3500 * time.Nanosecond

// slowness is how many times as long this processor takes for the same work,
// at least 1. It is measured once: the fastest of many runs, since others may
// have the processor meanwhile.
var slowness = sync.OnceValue(func() float64 {
	frame := []byte(`{"type":"subscribe","channels":["orders.eu.*","orders.us.*","news.>"],"since":"mib3k2x9-1024"}`)
	best := time.Hour
	for range 200 {
		begin := time.Now()
		_, _ = proto.ParseClientFrame(frame) // it is one
		best = min(best, time.Since(begin))
	}
	return max(1, float64(best)/float64(referenceFrame))
})

func newShares(unlimited bool) *shares {
	l := &shares{maxNames: maxNames, slowness: slowness(), of: map[netip.Prefix]*share{}, swept: time.Now()}
	l.unlimited.Store(unlimited)
	return l
}

// weight is what one subscription takes in memory: its name, and what the hub
// and the session keep for it.
func weight(name string) int { return 256 + len(name) }

// pay charges an address for work, and returns how long it has to wait before.
func (l *shares) pay(ip netip.Addr, work time.Duration) (wait time.Duration) {
	if l.unlimited.Load() {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.get(ip)
	s.settle(time.Now())
	s.debt += time.Duration(float64(work) * l.slowness)
	if s.debt <= shareAhead {
		return 0
	}
	return time.Duration(float64(s.debt-shareAhead) / shareOfProcessor)
}

// settle subtracts what has been paid by waiting.
func (s *share) settle(now time.Time) {
	paid := time.Duration(float64(now.Sub(s.at)) * shareOfProcessor)
	s.debt, s.at = max(0, s.debt-paid), now
}

// hold reserves memory for subscriptions, unless the address has none left.
func (l *shares) hold(ip netip.Addr, bytes int) (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.get(ip)
	if !l.unlimited.Load() && s.names+bytes > l.maxNames {
		return false
	}
	s.names += bytes
	return true
}

func (l *shares) release(ip netip.Addr, bytes int) {
	if bytes == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.get(ip).names -= bytes
}

// get finds or makes the share of an address. mu is held.
func (l *shares) get(ip netip.Addr) *share {
	now := time.Now()
	if now.Sub(l.swept) > sweepEvery {
		l.sweep(now)
	}
	g := httpx.AddressGroup(ip)
	s := l.of[g]
	if s == nil {
		s = &share{at: now}
		l.of[g] = s
	}
	return s
}

func (l *shares) sweep(now time.Time) {
	l.swept = now
	for g, s := range l.of {
		if s.settle(now); s.debt == 0 && s.names == 0 {
			delete(l.of, g)
		}
	}
}

// pay charges the client's address for work, and waits until it has the time
// for it, or the client is gone.
func (c *session) pay(work time.Duration) {
	c.s.wait(c.s.shares.pay(c.conn.Remote(), work), func() bool { return c.conn.Reason() != 0 })
}

// step is how soon a wait notices that its client is gone.
const step = 250 * time.Millisecond

// wait waits, unless gone reports true or the gateway has told every client to
// leave.
func (s *Service) wait(d time.Duration, gone func() bool) {
	if d > 0 {
		s.m.slowed.Add(d.Seconds())
	}
	for ; d > 0 && !gone(); d -= step {
		select {
		case <-time.After(min(d, step)):
		case <-s.replaying.Done():
			return
		}
	}
}

var errNames = errors.New(
	"the connections of your address have as many subscriptions as they may have together; a pattern covers " +
		"many channels")

// hold reserves memory for subscriptions of these names; nil: it is reserved.
func (c *session) hold(names ...string) *refusal {
	bytes := 0
	for _, name := range names {
		bytes += weight(name)
	}
	if !c.s.shares.hold(c.conn.Remote(), bytes) {
		return &refusal{code: proto.CloseOverload, err: errNames}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held += int32(bytes)
	return nil
}

// costOf is what it costs to admit a client, before what it missed is looked for.
func costOf(r *http.Request) time.Duration {
	cost := handshakeCost + nameCost*time.Duration(min(strings.Count(r.URL.RawQuery, "channel="), proto.MaxChannels))
	if strings.Contains(r.URL.RawQuery, "token=") || r.Header.Get("Authorization") != "" ||
		len(r.Header["Cookie"]) > 0 || len(r.Header["Sec-Websocket-Protocol"]) > 0 {
		cost += tokenCost
	}
	return cost
}
