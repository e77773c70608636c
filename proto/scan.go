package proto

import (
	"bytes"
	"unicode/utf8"
)

// This file reads ordinary JSON in one pass, for ParsePublication. It is strict and not complete: what it accepts,
// decodePublication (publish.go) accepts too, with the same meaning, and it declines, without a reason, whatever is
// faulty or unusual (deeper than quickDepth, more members than quickKeys, an escaped name). decodePublication then
// decides, and words the fault. No rule stands here alone; FuzzQuickPublication holds the two readers against each
// other.
//
// A second reader is worth its lines because it saves a fifth of what a line of NDJSON costs (2.4 instead of 3.1 µs of
// CPU, everything up to JetStream's acknowledgement) and a quarter of a message in an array (2.8 instead of 3.8 µs):
// go test -bench Publish ./services/ingest, and go test -bench ParsePublication ./proto for the readers alone (0.5 and
// 1.0 µs). A single POST costs 30 µs with either.

const (
	// quickDepth and quickKeys are how deep, and with how many keys in one
	// object, JSON is still ordinary. Both lie on the stack.
	quickDepth = 8
	quickKeys  = 16
)

// declined is no end of a value.
const declined = -1

// quickPublication is decodePublication of an ordinary publication; ok is
// false where that is to decide.
func quickPublication(b []byte) (p Publication, ok bool) {
	i := space(b, 0)
	if i == len(b) || b[i] != '{' || !utf8.Valid(b) {
		return Publication{}, false
	}
	ok = true
	end := object(b, i, quickDepth, func(name, value []byte) {
		ok = ok && p.set(name, value) == nil
	})
	if !ok || end == declined || space(b, end) != len(b) {
		return Publication{}, false
	}
	return p, true
}

// value returns where the JSON value that begins at b[i] ends, or declined.
// depth is how many arrays and objects it may be nested in.
func value(b []byte, i, depth int) int {
	if i >= len(b) {
		return declined
	}
	switch c := b[i]; {
	case c == '"':
		return str(b, i)
	case c == '{':
		return object(b, i, depth, nil)
	case c == '[':
		return array(b, i, depth)
	case c == '-' || '0' <= c && c <= '9':
		return number(b, i)
	case c == 't':
		return literal(b, i, "true")
	case c == 'f':
		return literal(b, i, "false")
	case c == 'n':
		return literal(b, i, "null")
	}
	return declined
}

// object is value for b[i] == '{'. It calls member, if there is one, for each
// member, in order; name and value are parts of b, the name without its quotes.
func object(b []byte, i, depth int, member func(name, value []byte)) int {
	if depth == 0 {
		return declined
	}
	var keySpace [quickKeys][]byte
	keys := keySpace[:0]
	if i = space(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if i == len(b) || b[i] != '"' || len(keys) == quickKeys {
			return declined
		}
		end := str(b, i)
		if end == declined {
			return declined
		}
		key := b[i+1 : end-1]
		if bytes.IndexByte(key, '\\') >= 0 { // it may be another one's equal
			return declined
		}
		for _, k := range keys {
			if bytes.Equal(k, key) {
				return declined
			}
		}
		keys = append(keys, key)
		if i = space(b, end); i == len(b) || b[i] != ':' {
			return declined
		}
		i = space(b, i+1)
		if end = value(b, i, depth-1); end == declined {
			return declined
		}
		if member != nil {
			member(key, b[i:end])
		}
		if i = space(b, end); i == len(b) {
			return declined
		}
		switch b[i] {
		case '}':
			return i + 1
		case ',':
			i = space(b, i+1)
		default:
			return declined
		}
	}
}

// array is value for b[i] == '['.
func array(b []byte, i, depth int) int {
	if depth == 0 {
		return declined
	}
	if i = space(b, i+1); i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		end := value(b, i, depth-1)
		if end == declined {
			return declined
		}
		if i = space(b, end); i == len(b) {
			return declined
		}
		switch b[i] {
		case ']':
			return i + 1
		case ',':
			i = space(b, i+1)
		default:
			return declined
		}
	}
}

// str is value for b[i] == '"'.
func str(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return declined
		case c == '\\':
			if i++; i == len(b) {
				return declined
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if i+4 >= len(b) || !hex(b[i+1]) || !hex(b[i+2]) || !hex(b[i+3]) || !hex(b[i+4]) {
					return declined
				}
				if surrogate(b[i-1:], '8', 'f') {
					if !surrogate(b[i-1:], '8', 'b') || !surrogate(b[i+5:], 'c', 'f') || !hex(b[i+9]) || !hex(b[i+10]) {
						return declined
					}
					i += 6
				}
				i += 4
			default:
				return declined
			}
		}
	}
	return declined
}

func hex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// number is value for a number (RFC 8259 section 6).
func number(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	first := i
	if i = digits(b, i); i == first || b[first] == '0' && i > first+1 {
		return declined
	}
	if i < len(b) && b[i] == '.' {
		first = i + 1
		if i = digits(b, first); i == first {
			return declined
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		first = i
		if i = digits(b, first); i == first {
			return declined
		}
	}
	return i
}

func digits(b []byte, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}

func literal(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return declined
	}
	return i + len(word)
}

// space returns where the white space at b[i], if there is any, ends.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}
