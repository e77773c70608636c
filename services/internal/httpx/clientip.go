package httpx

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are the networks whose X-Forwarded-For is believed. As a setting it
// reads from a comma-separated list of addresses and prefixes. The zero value
// believes nobody.
type Proxies struct{ prefixes []netip.Prefix }

// UnmarshalText reads "10.0.0.0/8, 192.0.2.1". A list with a fault changes
// nothing.
func (p *Proxies) UnmarshalText(text []byte) error {
	var prefixes []netip.Prefix
	for item := range strings.SplitSeq(string(text), ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			addr, aerr := netip.ParseAddr(item)
			if aerr != nil {
				return fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", item)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen()) // without the zone
		}
		if a := prefix.Addr(); a.Is4In6() { // peers are compared as IPv4
			if prefix.Bits() < 96 {
				return fmt.Errorf("%q is wider than the IPv4-mapped addresses; write an IPv4 or an IPv6 prefix", item)
			}
			prefix = netip.PrefixFrom(a.Unmap(), prefix.Bits()-96)
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	p.prefixes = prefixes
	return nil
}

// MarshalText writes the list back.
func (p *Proxies) MarshalText() ([]byte, error) {
	items := make([]string, len(p.prefixes))
	for i, prefix := range p.prefixes {
		items[i] = prefix.String()
	}
	return []byte(strings.Join(items, ",")), nil
}

func (p *Proxies) trust(a netip.Addr) bool {
	for _, prefix := range p.prefixes {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// ClientIP is the address of the client: the socket's peer, or, where that is
// a trusted proxy, the rightmost address in X-Forwarded-For that is not one.
// Entries further left are whatever the client liked to write. An invalid
// address (never seen over TCP) is the zero Addr.
func (p *Proxies) ClientIP(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	peer, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	peer = peer.Unmap().WithZone("")
	if !p.trust(peer) {
		return peer
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break // nor is any entry before this one to be believed
		}
		peer = hop.Unmap().WithZone("")
		if !p.trust(peer) {
			break
		}
	}
	return peer
}

// ClientAddr is ClientIP as text; empty if it is invalid.
func (p *Proxies) ClientAddr(r *http.Request) string {
	if len(p.prefixes) == 0 && !strings.HasPrefix(r.RemoteAddr, "[") {
		if host, _, ok := strings.Cut(r.RemoteAddr, ":"); ok { // IPv4, as the socket wrote it
			return host
		}
	}
	if addr := p.ClientIP(r); addr.IsValid() {
		return addr.String()
	}
	return ""
}

// parseHop reads one entry: an address, in brackets or not, or, as some proxies
// write it, an address with a port; quoted or not.
func parseHop(s string) (netip.Addr, error) {
	if n := len(s); n >= 2 && s[0] == '"' && s[n-1] == '"' {
		s = s[1 : n-1]
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr, nil
	}
	if n := len(s); n >= 2 && s[0] == '[' && s[n-1] == ']' {
		addr, err := netip.ParseAddr(s[1 : n-1])
		if err == nil && addr.Is4() {
			return addr, fmt.Errorf("%q: an IPv4 address has no brackets", s)
		}
		return addr, err
	}
	addrPort, err := netip.ParseAddrPort(s)
	return addrPort.Addr(), err
}

// Proxied reports whether the socket's peer is a trusted proxy, whose
// X-Forwarded headers say what the client did.
func (p *Proxies) Proxied(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	peer, err := netip.ParseAddr(host)
	return err == nil && p.trust(peer.Unmap().WithZone(""))
}
