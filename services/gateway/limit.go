package gateway

import (
	"net/netip"
	"sync"
	"time"

	"github.com/herald-push/herald/services/internal/httpx"
)

// perIP counts connections per IPv4 address or IPv6 /64. It knows what
// the other gateways count, too, as far as they have said so; see share. Safe
// for concurrent use.
type perIP struct {
	// send sends a count to the others. It is called without mu, so version
	// tells which of two counts is newer. Set by share before it is used.
	send func(report)

	mu      sync.Mutex
	max     int                  // guarded by mu; 0: no limit
	dryRun  bool                 // guarded by mu; count and report, but refuse nobody
	tell    int                  // guarded by mu; others are told about groups with this many connections here
	count   map[netip.Prefix]int // guarded by mu; connections here
	online  int                  // guarded by mu; sum of count
	version uint64               // guarded by mu; of what was said last
	shared  bool                 // guarded by mu; send may be called
	// others is what other gateways said: group, gateway, count. Guarded by mu.
	others map[netip.Prefix]map[string]remoteCount
}

// remoteCount is what another gateway counts of a group.
type remoteCount struct {
	n       int
	version uint64
	heard   time.Time
}

const (
	// refreshEvery is how often a gateway repeats all that it tells the others.
	refreshEvery = 10 * time.Second
	// forgetAfter is after how long without a word a gateway's counts no longer
	// hold: it was killed, or the bus is away.
	forgetAfter = 3 * refreshEvery
)

// newPerIP makes the count. A group is told to others from a hundredth of the
// limit on: so ten thousand ordinary visitors cost the bus nothing, and each
// gateway hides at most one percent.
func newPerIP(maximum int, dryRun bool) *perIP {
	l := &perIP{count: map[netip.Prefix]int{}, others: map[netip.Prefix]map[string]remoteCount{}}
	l.limit(maximum, dryRun)
	return l
}

// limit changes how many connections an address may have. Nobody who is there has to
// leave.
func (l *perIP) limit(maximum int, dryRun bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.max, l.dryRun, l.tell = maximum, dryRun, max(1, maximum/100)
}

// admission is the answer of enter.
type admission struct {
	total  int // connections of the address on all gateways, with this one if it may enter
	online int // connections of this gateway
	over   bool
	ok     bool // over may be ok: in a dry run
}

// add counts a connection in, unless the address has as many as it may have.
func (l *perIP) add(ip netip.Addr) admission {
	g := httpx.AddressGroup(ip)
	l.mu.Lock()
	a := admission{total: l.count[g] + l.elsewhere(g)}
	a.over = l.max > 0 && a.total >= l.max
	if a.ok = !a.over || l.dryRun; a.ok {
		l.count[g]++
		l.online++
		a.total++
	}
	a.online = l.online
	r, due := l.report(g)
	l.mu.Unlock()
	if a.ok && due {
		l.send(r)
	}
	return a
}

// remove counts a connection out and returns what remains.
func (l *perIP) remove(ip netip.Addr) (remaining, online int) {
	g := httpx.AddressGroup(ip)
	l.mu.Lock()
	r, due := l.report(g) // before: going below tell is news, too
	l.count[g]--
	l.online--
	n := l.count[g]
	if n == 0 {
		delete(l.count, g)
	}
	if due {
		if n < l.tell {
			n = 0 // what is below is nobody's business
		}
		r.Counts[g.String()] = n
	}
	remaining, online = l.count[g]+l.elsewhere(g), l.online
	l.mu.Unlock()
	if due {
		l.send(r)
	}
	return remaining, online
}

// report is what is to be told of a group; due is false where others need not
// know. mu is held.
func (l *perIP) report(g netip.Prefix) (r report, due bool) {
	if !l.shared || l.max == 0 || l.count[g] < l.tell {
		return report{}, false
	}
	l.version++
	return report{Version: l.version, Counts: map[string]int{g.String(): l.count[g]}}, true
}

// elsewhere is what the other gateways count of a group. mu is held.
func (l *perIP) elsewhere(g netip.Prefix) (n int) {
	if !l.shared {
		return 0
	}
	for _, c := range l.others[g] {
		if time.Since(c.heard) < forgetAfter {
			n += c.n
		}
	}
	return n
}
