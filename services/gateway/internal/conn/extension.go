package conn

import (
	"strconv"
	"strings"
)

// The one extension that there is (RFC 7692), as clients and the gateway name it.
const (
	permessageDeflate = "permessage-deflate"
	serverNoTakeover  = "server_no_context_takeover"
	clientNoTakeover  = "client_no_context_takeover"
	serverWindowBits  = "server_max_window_bits"
	clientWindowBits  = "client_max_window_bits"
)

// windowBitsMax is DEFLATE's largest window, 32 KiB, as a logarithm. A frame
// that all clients share may look back so far, and compress/flate knows no
// smaller one.
const windowBitsMax = 15

// negotiate answers a handshake's Sec-WebSocket-Extensions, whose lines are
// one list (RFC 6455 section 9.1). The client's offers stand in the order of
// its preference: the first of permessage-deflate that can be honoured is
// taken (RFC 7692 section 5.1). The answer is empty where there is none, or
// where the list is malformed.
//
// Either side compresses each message for itself: the gateway, because all
// clients share a message's bytes, and the client, because the gateway would
// have to keep 32 KiB for each until the next message comes.
func negotiate(lines []string) (answer string) {
	offers, ok := parseOffers(strings.Join(lines, ","))
	if !ok {
		return ""
	}
	for _, o := range offers {
		if o.name != permessageDeflate {
			continue
		}
		if ok, window := o.accept(); ok {
			answer := permessageDeflate + "; " + serverNoTakeover + "; " + clientNoTakeover
			if window { // it must be answered, and only then may it be (RFC 7692 section 7.1.2.1)
				answer += "; " + serverWindowBits + "=" + strconv.Itoa(windowBitsMax)
			}
			return answer
		}
	}
	return ""
}

// offer is one extension with its parameters.
type offer struct {
	name   string
	params []param
}

type param struct {
	name, value string
	valued      bool // it has a value
}

// accept reports whether the gateway takes the offer. It declines, as RFC 7692
// section 7.1 demands, where a parameter is unknown, stands there twice, has a
// value that it may not have, or cannot be honoured. window: the offer names
// one for what the gateway sends.
func (o offer) accept() (ok, window bool) {
	seen := map[string]bool{}
	for _, p := range o.params {
		if seen[p.name] {
			return false, false
		}
		seen[p.name] = true
		switch p.name {
		case serverNoTakeover, clientNoTakeover:
			ok = !p.valued
		case clientWindowBits: // whatever the client keeps to can be inflated
			ok = !p.valued || windowBits(p.value) > 0
		case serverWindowBits:
			ok = windowBits(p.value) == windowBitsMax
		default:
			ok = false
		}
		if !ok {
			return false, false
		}
	}
	return true, seen[serverWindowBits]
}

// windowBits reads a number from 8 to 15 without leading zeros (RFC 7692
// section 7.1.2); 0: it is none.
func windowBits(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 8 || n > windowBitsMax || strconv.Itoa(n) != s {
		return 0
	}
	return n
}

// parseOffers reads an extension-list (RFC 6455 section 9.1), in which list
// elements may be empty (RFC 9110 section 5.6.1). ok is false where it is
// malformed anywhere.
func parseOffers(s string) (offers []offer, ok bool) {
	l := list{s}
	for {
		for l.take(',') {
		}
		if l.rest == "" {
			return offers, true
		}
		var o offer
		if o.name = l.token(); o.name == "" {
			return nil, false
		}
		for l.take(';') {
			p := param{name: l.token()}
			if p.name == "" {
				return nil, false
			}
			if p.valued = l.take('='); p.valued {
				if p.value = l.value(); p.value == "" {
					return nil, false
				}
			}
			o.params = append(o.params, p)
		}
		if l.rest != "" && l.rest[0] != ',' {
			return nil, false
		}
		offers = append(offers, o)
	}
}

// list is what is still to be read of a header. White space is skipped before
// each piece and at the end.
type list struct{ rest string }

func (l *list) space() { l.rest = strings.TrimLeft(l.rest, " \t") }

// take reads one separator, if it is next.
func (l *list) take(c byte) bool {
	l.space()
	if l.rest == "" || l.rest[0] != c {
		return false
	}
	l.rest = l.rest[1:]
	l.space()
	return true
}

// token reads one; empty: there is none.
func (l *list) token() string {
	l.space()
	n := 0
	for n < len(l.rest) && isTokenByte(l.rest[n]) {
		n++
	}
	t := l.rest[:n]
	l.rest = l.rest[n:]
	l.space()
	return t
}

// value reads a token, or a quoted string of which, unquoted, a token is left.
// Empty: there is none.
func (l *list) value() string {
	l.space()
	if l.rest == "" || l.rest[0] != '"' {
		return l.token()
	}
	var b []byte
	for i := 1; i < len(l.rest); i++ {
		c := l.rest[i]
		switch {
		case c == '"':
			l.rest = l.rest[i+1:]
			l.space()
			return string(b)
		case c == '\\' && i+1 < len(l.rest):
			i++
			c = l.rest[i]
		}
		if !isTokenByte(c) {
			return ""
		}
		b = append(b, c)
	}
	return ""
}

// isTokenByte is tchar of RFC 9110 section 5.6.2.
func isTokenByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
