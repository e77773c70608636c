package httpx

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/herald-push/herald/proto"
)

// Hosts are the names by which browsers reach a service; empty: any name. A
// page that had its own name resolved to the service's address (DNS rebinding)
// asks under its own name, and would count as a page of the service.
type Hosts []string

// Validate reports what is no host name: "push.example.com", or
// "*.example.com" for all names below one.
func (h Hosts) Validate() error {
	for _, name := range h {
		bare := strings.TrimPrefix(name, "*.")
		if bare == "" || strings.ContainsAny(bare, "*/:@ ") || strings.HasPrefix(bare, ".") ||
			strings.HasSuffix(bare, ".") {
			return fmt.Errorf("hosts: %q is not a host name such as push.example.com or *.example.com, without "+
				"scheme and port", name)
		}
	}
	return nil
}

// allow reports whether the list has the host of an authority such as
// "push.example.com:443". Addresses, localhost and a request without a host
// pass: no page has them as its name, or comes without one.
func (h Hosts) allow(authority string) bool {
	host := strings.ToLower(strings.TrimSuffix(hostname(authority), "."))
	if len(h) == 0 || host == "" || local(host) {
		return true
	}
	for _, name := range h {
		name = strings.ToLower(name)
		if below, ok := strings.CutPrefix(name, "*"); host == name || ok && strings.HasSuffix(host, below) &&
			len(host) > len(below) {
			return true
		}
	}
	return false
}

// local reports whether a host is no name that a page of the web can have.
func local(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// authorityOf is the host that the client named: a trusted proxy may have put
// its own into Host.
func authorityOf(r *http.Request, proxies *Proxies) string {
	if forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ","); strings.TrimSpace(forwarded) != "" &&
		proxies.Proxied(r) {
		return strings.TrimSpace(forwarded)
	}
	return r.Host
}

// strictTransport keeps browsers from asking over plain HTTP again (RFC 6797):
// for a year, as the preload lists want it.
var strictTransport = []string{"max-age=31536000"}

// guardHosts refuses requests for other hosts, and answers over TLS that this
// server speaks itself with HSTS. Names of this machine have none: it would
// hold for whatever else listens there.
func guardHosts(next http.Handler, hosts Hosts, proxies *Proxies, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authority := authorityOf(r, proxies)
		if r.TLS != nil && !local(hostname(authority)) {
			w.Header()["Strict-Transport-Security"] = strictTransport
		}
		if !hosts.allow(authority) {
			WriteProblem(w, r, log,
				proto.ProblemOrigin.With(fmt.Sprintf("%.100q is none of this server's names; HERALD_HOSTS lists them",
					authority)))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func hostname(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.Trim(authority, "[]")
}
