package gateway

import (
	"net/netip"
	"sync"
)

// perIP counts connections per IPv4 address or IPv6 /64: a household gets a
// whole /64, so single IPv6 addresses would be no limit at all. Safe for
// concurrent use.
type perIP struct {
	max int // 0: no limit

	mu     sync.Mutex
	count  map[netip.Prefix]int // guarded by mu
	online int                  // guarded by mu; sum of count
}

func newPerIP(maximum int) *perIP { return &perIP{max: maximum, count: map[netip.Prefix]int{}} }

func group(ip netip.Addr) netip.Prefix {
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // fails only for the zero Addr, whose zero Prefix is a group too
	return p
}

// enter counts a connection in, unless the address has as many as it may
// have. total and online are the counts with it.
func (l *perIP) enter(ip netip.Addr) (total, online int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := group(ip)
	if l.max > 0 && l.count[g] >= l.max {
		return l.count[g], l.online, false
	}
	l.count[g]++
	l.online++
	return l.count[g], l.online, true
}

// leave counts a connection out and returns what remains.
func (l *perIP) leave(ip netip.Addr) (remaining, online int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := group(ip)
	l.count[g]--
	l.online--
	remaining = l.count[g]
	if remaining == 0 {
		delete(l.count, g)
	}
	return remaining, l.online
}
