package httpx

import (
	"net"
	"net/http"
	"strings"
)

// FromThisMachine reports whether a program on this machine sent the request. It
// looks at the socket's address: headers can be forged. A request that came
// through a proxy on this machine is not from this machine, and one for another
// host is a page that had its name resolved to 127.0.0.1 (DNS rebinding). A
// local proxy that adds no header at all looks like this machine.
func FromThisMachine(r *http.Request) bool {
	if !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) && hostname(r.Host) != "localhost" {
		return false
	}
	for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded",
		"Via"} {
		if len(r.Header.Values(h)) > 0 {
			return false
		}
	}
	return true
}

func isLoopback(hostport string) bool {
	ip := net.ParseIP(hostname(hostport))
	return ip != nil && ip.IsLoopback()
}

// Authority is the host, with its port, that the client named: a trusted proxy
// may have put its own into Host.
func Authority(r *http.Request, proxies *Proxies) string { return authorityOf(r, proxies) }

// LocalHost reports whether an authority names this machine: localhost, a name
// below it, or a loopback address. Browsers treat these as secure also over plain
// HTTP (W3C Secure Contexts section 3.1).
func LocalHost(authority string) bool {
	return isLoopback(authority) || local(hostname(authority)) && net.ParseIP(hostname(authority)) == nil
}

// ForwardedProto is the scheme the client used: https where the socket is
// TLS, or where a trusted proxy says so in X-Forwarded-Proto.
func (p *Proxies) ForwardedProto(r *http.Request) string {
	if r.TLS != nil || p.Proxied(r) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return "https"
	}
	return "http"
}
