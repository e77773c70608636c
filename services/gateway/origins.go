package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// origin is where a page comes from (RFC 6454), as browsers write it: lower
// case, IDNs in ASCII, and no port where it is the scheme's own.
type origin struct {
	scheme string
	host   string // without brackets; empty for "null" (then all is) and for file://
	port   string // decimal; empty: the scheme's own
}

// opaque is what browsers send for pages that have no origin of their own:
// sandboxed frames, and in some browsers pages of the file system. Any page can
// make one, so it never has credentials.
var opaque = origin{}

// allowedOrigins is the setting in a form that can be compared. The zero value
// allows none.
type allowedOrigins struct {
	all   bool
	exact map[origin]bool
	masks []origin // host without the "*.", or port "*"
}

// parseAllowed reads the setting. What no browser can ever send is refused,
// since its author would wait for it to work.
func parseAllowed(list []string) (allowedOrigins, error) {
	a := allowedOrigins{exact: map[origin]bool{}}
	var faults []error
	for _, item := range list {
		if item == "*" {
			a.all = true
			continue
		}
		o, err := parseOrigin(strings.TrimSuffix(item, "/"), true)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("%q: %w", item, err))
		case strings.HasPrefix(o.host, "*.") || o.port == "*":
			a.masks = append(a.masks, o)
		default:
			a.exact[o] = true
		}
	}
	return a, errors.Join(faults...)
}

// lists reports whether the origin itself or a mask is on the list.
func (a *allowedOrigins) lists(o origin) bool {
	if a.exact[o] {
		return true
	}
	for _, m := range a.masks {
		suffix, masked := strings.CutPrefix(m.host, "*")
		host := o.host == m.host || masked && len(o.host) > len(suffix) && strings.HasSuffix(o.host, suffix)
		if o.scheme == m.scheme && host && (o.port == m.port || m.port == "*") {
			return true
		}
	}
	return false
}

// judge says of a page of another host what page has under the same names.
func (a *allowedOrigins) judge(text string) (allowed, trusted bool) {
	if o, err := parseOrigin(text, false); err == nil && a.lists(o) {
		return true, o.host != ""
	}
	return a.all, false
}

var schemePorts = map[string]string{"http": "80", "https": "443"}

// parseOrigin reads a page's Origin or, with masks, an entry of the setting,
// where the host may begin with "*." (one or more labels) and the port may be "*".
func parseOrigin(s string, masks bool) (origin, error) {
	switch s {
	case "null":
		return opaque, nil
	case "file://", "file:/", "file:": // without the slashes that a list's entry may end with
		return origin{scheme: "file"}, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || rest == "" {
		return origin{}, errors.New("it is not an origin such as https://example.com")
	}
	anyPort := false
	if masks {
		rest, anyPort = strings.CutSuffix(rest, ":*")
	}
	u, err := url.Parse(scheme + "://" + rest)
	switch {
	case err != nil:
		return origin{}, errors.New("it is not an origin such as https://example.com")
	case u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(rest, "?#"):
		return origin{}, errors.New("an origin has a scheme, a host and perhaps a port, and nothing else")
	case u.Scheme == "ws" || u.Scheme == "wss":
		return origin{}, fmt.Errorf("a page's origin begins with http:// or https://; write %s",
			strings.Replace(s, "ws", "http", 1))
	}
	o := origin{scheme: u.Scheme, port: u.Port()}
	if o.host, err = hostOf(u.Hostname(), masks); err != nil {
		return origin{}, err
	}
	if o.port != "" {
		n, err := strconv.ParseUint(o.port, 10, 16)
		if err != nil || n == 0 {
			return origin{}, fmt.Errorf("%s is no port", o.port)
		}
		o.port = strconv.FormatUint(n, 10)
	}
	if o.port == schemePorts[o.scheme] {
		o.port = ""
	}
	if anyPort {
		if u.Port() != "" {
			return origin{}, errors.New("it has two ports")
		}
		o.port = "*"
	}
	return o, nil
}

// hostOf is a host as browsers write it.
func hostOf(host string, masks bool) (string, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String(), nil
	}
	prefix := ""
	if rest, ok := strings.CutPrefix(host, "*."); ok && masks {
		prefix, host = "*.", rest
	}
	if strings.Contains(host, "*") {
		return "", errors.New("* stands for whole labels in front, as in https://*.example.com, for a port, as in " +
			"http://localhost:*, or alone for every origin")
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil {
		// Names with an underscore are none of the DNS, and yet in use inside.
		if ascii = strings.ToLower(host); strings.Trim(ascii, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			return "", fmt.Errorf("%q is no host name", host)
		}
	}
	if ascii == "" {
		return "", errors.New("it has no host")
	}
	return prefix + ascii, nil
}
