package gateway

import (
	"net/http"
	"strings"
	"sync"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// page is what may be said about the page that a request comes from.
type page struct {
	origin  string // as the browser wrote it; empty: no browser, or a page of the same origin
	allowed bool
	// trusted pages are of the same host or on the list by name: their requests
	// may carry what a browser adds by itself (cookies). One that is allowed
	// only because everybody is, or that has no origin of its own, is not: any
	// page of the web could use its visitor's cookies then.
	trusted bool
	// own pages are of the same host, or say of no other: no setting allows them.
	own    bool
	judged *rules // those in effect when the page was judged
}

// pageOf judges a request by its Origin: pages of the same host may connect,
// and those on the list. A client without Origin is no browser, or a page of
// the same origin, and the check protects only browsers' users (RFC 6455
// section 10.2).
func (s *Service) pageOf(r *http.Request) page {
	p := page{origin: r.Header.Get("Origin"), judged: s.rules.Load()}
	if p.origin == "" {
		p.allowed, p.own = true, true
		// Browsers leave Origin out where a page of another site embeds an image
		// or a script, and say where it comes from in Sec-Fetch-Site.
		p.trusted = r.Header.Get("Sec-Fetch-Site") != "cross-site"
		return p
	}
	if o, err := parseOrigin(p.origin, false); err == nil && s.sameHost(r, o) {
		p.allowed, p.trusted, p.own = true, true, true
		return p
	}
	p.allowed, p.trusted = p.judged.origins.judge(p.origin)
	return p
}

// sameHost compares a page's origin with the host that the request names. The
// scheme is not compared: TLS may end at a proxy that says nothing of it.
func (s *Service) sameHost(r *http.Request, o origin) bool {
	if o.host == "" {
		return false
	}
	authority, proxied := r.Host, s.cfg.TrustedProxies.Proxied(r)
	if forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ","); proxied &&
		strings.TrimSpace(forwarded) != "" {
		authority = strings.TrimSpace(forwarded)
	}
	host, err := parseOrigin("http://"+authority, false)
	if err != nil || host.host != o.host {
		return false
	}
	port := host.port
	if port == schemePorts["https"] { // and 80 is gone already
		port = ""
	}
	if !proxied {
		return port == o.port
	}
	// A proxy may put its own port into Host, or leave the client's out.
	if forwarded := r.Header.Get("X-Forwarded-Port"); forwarded != "" {
		return forwarded == o.port || o.port == "" && (forwarded == schemePorts["http"] ||
			forwarded == schemePorts["https"])
	}
	return port == o.port || port == "" || o.port == ""
}

// allowPage lets a page of an allowed origin read the answer (CORS), and
// refuses others.
func (s *Service) allowPage(w http.ResponseWriter, r *http.Request) (page, bool) {
	p := s.pageOf(r)
	if !p.allowed {
		s.refuseOrigin(w, r, p)
		return p, false
	}
	s.shareWith(w, p)
	return p, true
}

// shareWith sets the headers by which a browser lets a page read an answer.
// Credentials and "*" never go together.
func (s *Service) shareWith(w http.ResponseWriter, p page) {
	w.Header().Add("Vary", "Origin")
	switch {
	case p.origin == "" || !p.allowed:
	case p.trusted:
		w.Header().Set("Access-Control-Allow-Origin", p.origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	case s.rules.Load().origins.all:
		w.Header().Set("Access-Control-Allow-Origin", "*")
	default:
		w.Header().Set("Access-Control-Allow-Origin", p.origin)
	}
}

// allowPreflight answers what browsers ask before they send more headers than
// are safe for any page: a token, an id, or what a tracing script adds. None of
// them has an effect that the origin's check does not guard.
func (s *Service) allowPreflight(w http.ResponseWriter, r *http.Request, methods string) {
	if _, ok := s.allowPage(w, r); !ok {
		return
	}
	w.Header().Add("Vary", "Access-Control-Request-Headers")
	headers := strings.Join(r.Header.Values("Access-Control-Request-Headers"), ", ")
	if headers == "" {
		headers = "Authorization, Last-Event-ID, Cache-Control"
	}
	w.Header().Set("Access-Control-Allow-Headers", headers)
	w.Header().Set("Access-Control-Allow-Methods", methods)
	w.Header().Set("Access-Control-Max-Age", "86400") // seconds; browsers cap it
	w.WriteHeader(http.StatusNoContent)
}

// refuseOrigin answers 403, and tells the operator.
func (s *Service) refuseOrigin(w http.ResponseWriter, r *http.Request, p page) {
	problem := proto.ProblemOrigin.With("add " + p.origin + " to HERALD_ALLOWED_ORIGINS if it should")
	s.refused(r, "origin", problem.Status, 0, problem.Error())
	s.strangers.report(s, r, p.origin)
	httpx.WriteProblem(w, r, s.log, problem)
}

// strangers are the origins that were refused, so that each is reported once:
// a page that may not connect tries again for as long as somebody looks at it.
type strangers struct {
	mu   sync.Mutex
	seen map[string]bool // guarded by mu
}

const (
	// maxStrangers bounds what is remembered, and so how many lines there are.
	maxStrangers = 100
	// maxOriginBytes bounds one: a host name has at most 253.
	maxOriginBytes = 300
)

func (t *strangers) report(s *Service, r *http.Request, origin string) {
	if len(origin) > maxOriginBytes {
		origin = origin[:maxOriginBytes]
	}
	t.mu.Lock()
	n, known := len(t.seen), t.seen[origin]
	if !known && n < maxStrangers {
		if t.seen == nil {
			t.seen = map[string]bool{}
		}
		t.seen[origin] = true
	}
	t.mu.Unlock()
	if known || n >= maxStrangers {
		return
	}
	s.log.Warn("a page of another origin was refused; if it may connect, add its origin to HERALD_ALLOWED_ORIGINS "+
		"(-allowed-origins)", "origin", origin, "host", r.Host)
	if n == maxStrangers-1 {
		s.log.Warn("further origins that are refused are not reported; herald_gateway_refused_total counts them",
			"origins", maxStrangers)
	}
}
