package admin

import (
	"crypto/subtle"
	"fmt"
	"net/http"

	"github.com/herald-push/herald/services/internal/httpx"
)

// securityPolicy lets the page use its own scripts, styles and images, talk to
// its own server, and nothing else; nobody may frame it. Inline scripts, inline
// style elements and eval are not allowed.
const securityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src " +
	"'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// OpenTo reports whether who sends the request may open the console.
func (s *Service) OpenTo(r *http.Request) bool {
	return s.cfg.Console == On || s.cfg.Console == Loopback && httpx.FromThisMachine(r)
}

// guard refuses who may not open the console at all, and says to browsers what
// the page may not do.
func (s *Service) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", securityPolicy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !s.OpenTo(r) {
			s.metrics.refused.WithLabelValues(refusedPlace).Inc()
			h.Set("Cache-Control", "no-store")
			httpx.WriteProblem(w, r, s.log,
				problemPlace.With("open it as http://localhost on the machine that Herald runs on, without a "+
					"proxy; -console on, or HERALD_CONSOLE=on, opens it for everybody who can log in"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

const csrfHeader = "X-CSRF-Token"

// admit finds out who calls, and whether that one may. Errors are problems.
func (s *Service) admit(r *http.Request, route route) (*call, error) {
	if route.method != http.MethodGet {
		if err := s.sameOrigin(r); err != nil {
			s.metrics.refused.WithLabelValues(refusedForgery).Inc()
			return nil, problemForgery.With(err.Error())
		}
	}
	address := ""
	if ip := s.cfg.TrustedProxies.ClientIP(r); ip.IsValid() {
		address = ip.String()
	}
	if route.role == open {
		return &call{address: address}, nil
	}
	c, err := s.authenticate(r)
	if err != nil {
		s.metrics.refused.WithLabelValues(refusedSession).Inc()
		return nil, err
	}
	c.address = address
	given := []byte(r.Header.Get(csrfHeader))
	if route.method != http.MethodGet && subtle.ConstantTimeCompare(given, []byte(c.csrf)) != 1 {
		s.metrics.refused.WithLabelValues(refusedForgery).Inc()
		return nil, problemForgery.With("the header " + csrfHeader + " is not the session's; load the page again")
	}
	if !c.role.Includes(route.role) {
		s.metrics.refused.WithLabelValues(refusedRole).Inc()
		return nil, problemRole.With(fmt.Sprintf("%s is %s, and this needs %s", c.user, c.role, route.role))
	}
	return c, nil
}

// sameOrigin refuses what a page of another origin sends: browsers say so in
// Sec-Fetch-Site or Origin. It protects the login, which has no CSRF token yet.
func (s *Service) sameOrigin(r *http.Request) error {
	named := *r
	named.Host = httpx.Authority(r, &s.cfg.TrustedProxies)
	return http.NewCrossOriginProtection().Check(&named)
}
