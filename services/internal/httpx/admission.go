package httpx

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
)

// Admission counts the sockets of one listener from accept to close: idle
// ones, half handshakes and refused ones like all others. It keeps descriptors
// back for the rest of the process, above all for the store, and bounds what
// one address has. It is safe for concurrent use.
//
// A socket beyond a bound is still accepted, as long as there is one of a few
// places for that, to receive the reason in its own protocol; it must
// ask within refusedTime. Beyond those places a socket is closed at once.
//
// The address is the socket's peer, IPv6 by /64. The socket of a trusted proxy
// carries many clients: it counts as a socket, and each request under way by
// it counts for the address that the proxy names. Over HTTP/2 each request
// under way counts for the address of the peer, besides the socket.
type Admission struct {
	// Fixed after newAdmission.
	max     int // sockets that are served
	words   int // sockets beyond max that are answered with the reason
	proxies Proxies
	log     *slog.Logger

	mu         sync.Mutex
	perAddress int                  // guarded by mu; 0: no limit
	open       int                  // guarded by mu; sockets
	addresses  map[netip.Prefix]int // guarded by mu; sockets of peers, and requests under way by trusted proxies
	refused    int                  // guarded by mu; since the last line of log
	logged     time.Time            // guarded by mu; when the last line was written
}

const (
	// reserveShare of the descriptors that the process may have is kept back,
	// between leastReserve and mostReserve: the store of an embedded NATS, the
	// log's database and connections of the process's own need some fifty at
	// rest, and more while they compact.
	reserveShare = 4
	leastReserve = 128
	mostReserve  = 1024
	// leastSockets are accepted however low the limit is.
	leastSockets = 16
	// wordsShare of the reserve is lent to sockets that are refused in words.
	wordsShare = 4

	// besides is how many sockets one address may have beyond its limit of
	// connections: pages that load, publishers beside clients. As many again
	// are refused in words.
	besides = 64
	// refusedTime is how long a socket that is refused in words may take to ask.
	refusedTime = 5 * time.Second
	// logEvery bounds how often refused sockets are logged.
	logEvery = 10 * time.Second
)

// Sockets that a process with this limit on open files accepts, and how many
// of the others it can refuse in words.
func socketsWithin(limit uint64) (most, words int) {
	reserve := min(max(limit/reserveShare, leastReserve), mostReserve)
	most = leastSockets
	if limit > reserve+leastSockets {
		most = int(min(limit-reserve, 1<<30))
	}
	return most, int(reserve / wordsShare)
}

// MaxSockets is how many sockets a process with this limit on open files
// accepts.
func MaxSockets(limit uint64) int {
	most, _ := socketsWithin(limit)
	return most
}

// newAdmission counts against the limit on open files, or against maxSockets
// where that is not 0 and less.
func newAdmission(maxSockets, perAddress int, proxies Proxies, log *slog.Logger) *Admission {
	a := &Admission{max: 1 << 30, words: mostReserve, perAddress: perAddress, proxies: proxies, log: log,
		addresses: map[netip.Prefix]int{}}
	if limit, ok := OpenFilesLimit(); ok {
		a.max, a.words = socketsWithin(limit)
	}
	if maxSockets > 0 {
		a.max = min(a.max, maxSockets)
	}
	return a
}

// Why a socket is refused.
var (
	errNoSocket = proto.ProblemUnavailable.With("this server holds as many connections as it can; come back later")
	errAddress  = proto.ProblemTooManyRequests.With(
		"your address has as many connections as it may have; close some, or come back later")
)

// AddressGroup is what counts as one address: an IPv4 address, or an IPv6 /64,
// since a household gets a whole /64.
func AddressGroup(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // fails only for the zero Addr, whose zero Prefix is a group too
	return p
}

// place is one socket, or one request by a trusted proxy, as it is counted.
type place struct {
	a       *Admission
	peer    netip.Addr
	socket  bool           // it counts as a socket
	named   bool           // it counts for the address of peer
	refused *proto.Problem // why it is refused in words; nil: it is not
	asked   time.Time      // deadline for the request of a refused socket
	left    atomic.Bool
}

// release gives the place back, once.
func (p *place) release() {
	if p == nil || p.left.Swap(true) {
		return
	}
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	p.a.change(p, -1)
}

func (p *place) within(t time.Time) time.Time {
	if p == nil || p.refused == nil || !t.IsZero() && t.Before(p.asked) {
		return t
	}
	return p.asked
}

// change counts a place in or out. mu is held.
func (a *Admission) change(p *place, by int) {
	if p.socket {
		a.open += by
	}
	if !p.named {
		return
	}
	g := AddressGroup(p.peer)
	if a.addresses[g] += by; a.addresses[g] == 0 {
		delete(a.addresses, g)
	}
}

// enter counts a place in. ok is false where there is none left, not even to
// say so.
func (a *Admission) enter(p *place) (ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ok = true
	if n := a.addresses[AddressGroup(p.peer)]; p.named && a.perAddress > 0 && n-besides >= a.perAddress {
		p.refused, ok = errAddress, n-2*besides < a.perAddress // perAddress may be the largest number that there is
	}
	if p.socket && a.open >= a.max {
		p.refused, ok = errNoSocket, ok && a.open < a.max+a.words
	}
	if p.refused != nil {
		p.asked = time.Now().Add(refusedTime)
		a.logRefusal(p)
	}
	if ok {
		a.change(p, 1)
	}
	return ok
}

// logRefusal logs that sockets are refused, once in logEvery. mu is held.
func (a *Admission) logRefusal(p *place) {
	a.refused++
	if now := time.Now(); now.Sub(a.logged) >= logEvery {
		a.log.Warn("connections are refused", "reason", p.refused.Detail, "remote", p.peer, "refused", a.refused,
			"open", a.open, "most", a.max)
		a.logged, a.refused = now, 0
	}
}

// admit counts an accepted connection. nil: it was closed.
func (a *Admission) admit(nc net.Conn) *Socket {
	p := &place{a: a, socket: true}
	if addr, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		p.peer = addr.AddrPort().Addr().Unmap().WithZone("")
	}
	p.named = !a.proxies.trust(p.peer)
	if !a.enter(p) {
		if tcp, ok := nc.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // at once, without a socket that waits for the last packets
		}
		_ = nc.Close()
		return nil
	}
	s := &Socket{Conn: nc, place: p}
	if p.refused != nil {
		_ = s.SetDeadline(p.asked)
	}
	return s
}

// listener is a listener whose connections are Sockets that are counted.
type listener struct {
	net.Listener
	a *Admission
}

func (l listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if s := l.a.admit(nc); s != nil {
			return s, nil
		}
	}
}

type placeKey struct{}

// remember puts the place of a socket into the context of its requests; for http.Server.ConnContext.
func (a *Admission) remember(ctx context.Context, nc net.Conn) context.Context {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if s, ok := nc.(*Socket); ok && s.place != nil {
		return context.WithValue(ctx, placeKey{}, s.place)
	}
	return ctx
}

// Refused is why a request may only be answered with a refusal; nil: it may be
// served. The answer says so in the words of the protocol, and ends.
func Refused(r *http.Request) *proto.Problem {
	if visit, ok := r.Context().Value(visitKey{}).(*place); ok && visit.refused != nil {
		return visit.refused
	}
	if p, ok := r.Context().Value(placeKey{}).(*place); ok {
		return p.refused
	}
	return nil
}

type visitKey struct{}

// serve counts requests that come by a trusted proxy or over HTTP/2, and answers those that
// are refused, unless words reports that next does so in words of its own.
func (a *Admission) serve(next http.Handler, words func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, _ := r.Context().Value(placeKey{}).(*place)
		if socket != nil && (!socket.named || r.ProtoMajor >= 2) { // one socket, many clients or requests
			if client := a.proxies.ClientIP(r); client.IsValid() && !a.proxies.trust(client) {
				visit := &place{a: a, peer: client, named: true}
				if a.enter(visit) {
					defer visit.release()
				} else {
					words = nil
				}
				r = r.WithContext(context.WithValue(r.Context(), visitKey{}, visit))
			}
		}
		refused := Refused(r)
		if refused == nil {
			next.ServeHTTP(w, r)
			return
		}
		if socket != nil && socket.refused != nil {
			w.Header().Set("Connection", "close")
		}
		if words != nil && words(r) {
			next.ServeHTTP(w, r)
			return
		}
		RetryAfter(w, refusedTime)
		WriteProblem(w, r, a.log, refused)
	})
}

// Keep makes the place of r's socket a client's that outlives the request,
// such as a WebSocket, whatever becomes of the socket that net/http knows.
// Release gives it back.
func (a *Admission) Keep(r *http.Request, client netip.Addr) {
	p := &place{a: a, peer: client, socket: true, named: !a.proxies.trust(client)}
	a.mu.Lock()
	a.change(p, 1)
	a.mu.Unlock()
	for _, key := range []any{placeKey{}, visitKey{}} {
		if old, ok := r.Context().Value(key).(*place); ok {
			old.release()
		}
	}
}

// Release counts a client out that Keep has counted in.
func (a *Admission) Release(client netip.Addr) {
	p := place{a: a, peer: client, socket: true, named: !a.proxies.trust(client)}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.change(&p, -1)
}

// LimitAddresses changes how many connections one address may have; 0: no limit. Nobody
// a client that is connected has to go. On a nil Admission it does nothing.
func (a *Admission) LimitAddresses(perAddress int) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.perAddress = perAddress
}

// Open is how many sockets are open, and how many may be.
func (a *Admission) Open() (open, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open, a.max
}
