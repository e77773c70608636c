package proto

import (
	"bytes"
	"errors"
	"strconv"
)

// errSurrogate: JSON can write half of a character beyond U+FFFF, but no UTF-8
// text can hold it. Readers replace it or fail, each in its own way, so such a
// string would not arrive as it was sent (RFC 8259 section 8.2).
var errSurrogate = errors.New("a \\u escape is half of a surrogate pair; write both halves, or the character itself")

// checkSurrogates looks at the escapes of valid JSON. The error is a
// *FieldError that points at the string, or for an object's key at the object.
func checkSurrogates(b []byte) error {
	at := loneSurrogate(b)
	if at < 0 {
		return nil
	}
	return fault(pointerTo(b, at), errSurrogate)
}

// loneSurrogate is where valid JSON has the first surrogate escape that is not
// followed, or preceded, by its other half; -1: nowhere.
func loneSurrogate(b []byte) int {
	for i := 0; ; {
		next := bytes.IndexByte(b[i:], '\\') // valid JSON has a backslash only in strings
		if next < 0 {
			return -1
		}
		i += next
		switch {
		case !surrogate(b[i:], '8', 'f'):
			i += 2 // the hex digits of another \u have no backslash
		case surrogate(b[i:], '8', 'b') && surrogate(b[i+6:], 'c', 'f'):
			i += 12
		default:
			return i
		}
	}
}

// surrogate reports whether b begins with an escape \udX.., where X is a hex
// digit from first to last.
func surrogate(b []byte, first, last byte) bool {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' || b[2]|0x20 != 'd' {
		return false
	}
	x := b[3]
	if x >= 'A' {
		x |= 0x20
	}
	return first <= x && x <= last
}

// pointerTo is the JSON pointer of the string in valid JSON that has the byte
// at; of its object if that string is a key.
func pointerTo(b []byte, at int) string {
	type place struct {
		object, value bool // value: the key was read
		key           []byte
		index         int
	}
	var places []place
	for i := 0; i < at; i++ {
		switch b[i] {
		case '{', '[':
			places = append(places, place{object: b[i] == '{'})
		case '}', ']':
			places = places[:len(places)-1]
		case ':':
			places[len(places)-1].value = true
		case ',':
			places[len(places)-1].value = false
			places[len(places)-1].index++
		case '"':
			end := i + 1
			for b[end] != '"' {
				if b[end] == '\\' {
					end++
				}
				end++
			}
			if n := len(places); n > 0 && places[n-1].object && !places[n-1].value {
				places[n-1].key = b[i+1 : end]
			}
			i = end
		}
	}
	pointer := ""
	for _, p := range places {
		switch {
		case p.object && p.value:
			key, err := text(append(append([]byte{'"'}, p.key...), '"'))
			if err != nil && len(p.key) > 0 {
				return pointer
			}
			pointer += "/" + pointerEscape.Replace(key)
		case !p.object:
			pointer += "/" + strconv.Itoa(p.index)
		}
	}
	return pointer
}
