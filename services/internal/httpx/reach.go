package httpx

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Reach is the address at which a program on this machine reaches a listener
// that was given listen: the same, except that the address of all interfaces
// becomes the loopback address of its family. An address without a host means
// all interfaces; of those, IPv4's loopback is used (RFC 4291 section 2.5.2
// forbids the unspecified address as a destination, some systems refuse it).
func Reach(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if host == "" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil || !ip.IsUnspecified(): // a name, or one interface
		return listen
	case ip.Is4():
		return net.JoinHostPort("127.0.0.1", port)
	default:
		return net.JoinHostPort("::1", port)
	}
}

// DialReach makes transport dial the listener that was given listen, whatever
// the host of the URL. It serves to ask the service on this machine for its
// state: no proxy stands in between, and an IPv6 zone needs no escapes.
func DialReach(transport *http.Transport, listen string) {
	dialer := net.Dialer{Timeout: 3 * time.Second}
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, "tcp", Reach(listen))
		if err != nil && Reach(listen) != listen { // all interfaces may mean those of the other family alone
			_, port, splitErr := net.SplitHostPort(listen)
			if splitErr == nil {
				if other, otherErr := dialer.DialContext(ctx, "tcp",
					net.JoinHostPort("localhost", port)); otherErr == nil {
					return other, nil
				}
			}
		}
		return conn, err
	}
}
