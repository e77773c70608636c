package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/herald-push/herald/proto"
)

// originAllowed reports whether the page that connects may: one of the same
// host, or of an origin on the list. A client without Origin is no browser,
// and the check protects only browsers' users (RFC 6455 section 10.2).
func (s *Service) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	for _, allowed := range s.cfg.AllowedOrigins {
		if allowed == "*" || strings.EqualFold(strings.TrimSuffix(allowed, "/"), origin) {
			return true
		}
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

func originProblem(r *http.Request) *proto.Problem {
	return proto.ProblemOrigin.With("add " + r.Header.Get("Origin") + " to HERALD_ALLOWED_ORIGINS if it should")
}
