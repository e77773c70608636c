package ws

import (
	"strconv"
	"strings"
)

// Names of the extension and its parameters (RFC 7692 section 7.1).
const (
	permessageDeflate = "permessage-deflate"
	serverNoTakeover  = "server_no_context_takeover"
	clientNoTakeover  = "client_no_context_takeover"
	serverWindowBits  = "server_max_window_bits"
	clientWindowBits  = "client_max_window_bits"
)

// windowBitsMax is the base-2 logarithm of DEFLATE's largest window, 32 KiB. What
// the gateway compresses may refer back so far: compress/flate knows no smaller
// window, and all clients share the bytes.
const windowBitsMax = 15

// Negotiate returns the answer to the Sec-WebSocket-Extensions lines of a
// handshake, which are one list (RFC 6455 section 9.1). Offers stand in the order
// of the client's preference: the first of permessage-deflate that can be
// honoured is accepted (RFC 7692 section 5.1). The answer is empty if there is
// none, or if the list is malformed anywhere.
//
// The answer has each side compress every message by itself: the gateway, because
// all clients share a message's bytes; the client, because the gateway would have
// to keep a window of 32 KiB for each until its next message comes.
func Negotiate(lines []string) (answer string) {
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
			if window { // an offer of it must be answered, and nothing else may be (RFC 7692 section 7.1.2.1)
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
	valued      bool // it has a value: name=value
}

// accept reports whether the gateway accepts the offer. It declines, as RFC 7692
// section 7.1 demands, if a parameter is unknown, stands there twice, has a value
// that it must not have, or cannot be honoured. window reports whether the offer
// has server_max_window_bits.
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
		case clientWindowBits: // a smaller window of the client's can be inflated, too
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
		for l.separator(',') {
		}
		if l.rest == "" {
			return offers, true
		}
		var o offer
		if o.name = l.token(); o.name == "" {
			return nil, false
		}
		for l.separator(';') {
			p := param{name: l.token()}
			if p.name == "" {
				return nil, false
			}
			if p.valued = l.separator('='); p.valued {
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

// list is the rest of a header that is being parsed. Its methods skip white space
// before and after what they read.
type list struct{ rest string }

func (l *list) space() { l.rest = strings.TrimLeft(l.rest, " \t") }

// separator reads c if it is next, and reports whether it was.
func (l *list) separator(c byte) bool {
	l.space()
	if l.rest == "" || l.rest[0] != c {
		return false
	}
	l.rest = l.rest[1:]
	l.space()
	return true
}

// token reads one; empty: the next byte begins none.
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

// value reads a token, or a quoted string whose content is a token. Empty: the
// next byte begins neither.
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
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
