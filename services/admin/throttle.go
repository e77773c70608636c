package admin

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/herald-push/herald/services/internal/httpx"
	"golang.org/x/time/rate"
)

// How often passwords may be tried. A password that was made here has 100 bits,
// a chosen one at least 12 characters: a few thousand guesses a day are nothing.
const (
	triesOfAddress      = 10 // at once, then one each
	triesOfAddressEvery = 15 * time.Second
	triesOfUser         = 20
	triesOfUserEvery    = 15 * time.Second
	// unknownOfAddress sessions that are not in memory are looked for at once, then
	// one each: strangers invent them.
	unknownOfAddress      = 50
	unknownOfAddressEvery = 100 * time.Millisecond
	// maxTriers bounds how many addresses, users and pairs are remembered, twice:
	// see generations.
	maxTriers = 5000
)

// throttle bounds how often passwords are tried, by address (an IPv6 /64 counts
// as one) and by user. It is this process's own. Safe for concurrent use.
//
// An address from which a user has logged in before is not held back by what
// others try in that user's name: nobody can lock somebody else out for good.
type throttle struct {
	mu        sync.Mutex
	addresses generations[netip.Prefix, *rate.Limiter] // guarded by mu
	users     generations[string, *rate.Limiter]       // guarded by mu
	familiar  generations[pair, struct{}]              // guarded by mu; who logged in from where
	unknown   generations[netip.Prefix, *rate.Limiter] // guarded by mu; sessions that were looked for
}

// lookFor spends a look for a session that is not in memory. False: the address has
// looked for too many.
func (t *throttle) lookFor(address netip.Addr, now time.Time) bool {
	var group netip.Prefix
	if address.IsValid() {
		group = httpx.AddressGroup(address)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := t.unknown.get(group, func() *rate.Limiter {
		return rate.NewLimiter(rate.Every(unknownOfAddressEvery), unknownOfAddress)
	})
	return limit.AllowN(now, 1)
}

type pair struct {
	user  string
	group netip.Prefix
}

// pairOf expects an address as admit returns it: empty where there is none.
func pairOf(user, address string) pair {
	ip, _ := netip.ParseAddr(address)                           // the zero Addr counts as one address
	p := pair{user: strings.ToLower(user[:min(len(user), 64)])} // no user has a longer name
	if ip.IsValid() {
		p.group = httpx.AddressGroup(ip)
	}
	return p
}

// try spends one try. refund gives it back, for who had the password. ok false:
// there is none, and wait says when there is.
func (t *throttle) try(user, address string, now time.Time) (refund func(), wait time.Duration, ok bool) {
	p := pairOf(user, address)
	t.mu.Lock()
	defer t.mu.Unlock()
	limits := []*rate.Limiter{t.addresses.get(p.group,
		func() *rate.Limiter { return rate.NewLimiter(rate.Every(triesOfAddressEvery), triesOfAddress) })}
	if !t.familiar.has(p) {
		limits = append(limits, t.users.get(p.user,
			func() *rate.Limiter { return rate.NewLimiter(rate.Every(triesOfUserEvery), triesOfUser) }))
	}
	taken := make([]*rate.Reservation, 0, len(limits))
	for _, l := range limits {
		r := l.ReserveN(now, 1)
		taken = append(taken, r)
		wait = max(wait, r.DelayFrom(now))
	}
	refund = func() {
		for _, r := range taken {
			r.CancelAt(now)
		}
	}
	if wait > 0 {
		refund()
		return nil, wait, false
	}
	return refund, 0, true
}

// succeeded remembers that the user comes from there.
func (t *throttle) succeeded(user, address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.familiar.get(pairOf(user, address), func() struct{} { return struct{}{} })
}

// generations is a map that forgets: when the young generation is full, it
// becomes the old one, and what was in the old one and was not used since is
// gone. The zero value is empty.
type generations[K comparable, V any] struct{ young, old map[K]V }

func (g *generations[K, V]) has(k K) bool {
	_, young := g.young[k]
	_, old := g.old[k]
	return young || old
}

// get finds a value, or makes it.
func (g *generations[K, V]) get(k K, fresh func() V) V {
	if v, ok := g.young[k]; ok {
		return v
	}
	v, ok := g.old[k]
	if !ok {
		v = fresh()
	}
	if len(g.young) >= maxTriers || g.young == nil {
		g.young, g.old = map[K]V{}, g.young
	}
	g.young[k] = v
	return v
}
