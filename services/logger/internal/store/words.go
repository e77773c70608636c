package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrSearch is wrapped by the errors of a search that nobody could answer.
var ErrSearch = errors.New("invalid search")

// Limits of a search: more is a mistake or an attack.
const (
	MaxSearchBytes = 512
	maxSearchWords = 16
)

// words splits text: a word is a run of letters, digits and marks, in
// lower case; a character of a script that is written without spaces is a
// word by itself. The zero value is usable; each call of split reuses the
// memory of the one before. Not for concurrent use.
type words struct {
	text []byte // the words, one after the other
	ends []int
}

// split returns the number of words in text, as they are read by at.
func (w *words) split(text string) int {
	w.text, w.ends = w.text[:0], w.ends[:0]
	start := 0
	end := func() {
		if len(w.text) > start {
			start = len(w.text)
			w.ends = append(w.ends, start)
		}
	}
	for i := 0; i < len(text); {
		b := text[i]
		if b < utf8.RuneSelf {
			i++
			switch {
			case 'a' <= b && b <= 'z' || '0' <= b && b <= '9':
				w.text = append(w.text, b)
			case 'A' <= b && b <= 'Z':
				w.text = append(w.text, b+'a'-'A')
			default:
				end()
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		switch {
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer,
			unicode.Myanmar):
			end()
			w.text = utf8.AppendRune(w.text, r)
			end()
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r):
			w.text = utf8.AppendRune(w.text, unicode.ToLower(r))
		default:
			end()
		}
	}
	end()
	return len(w.ends)
}

// at is the i-th word; it is valid until the next split.
func (w *words) at(i int) []byte {
	if i == 0 {
		return w.text[:w.ends[0]]
	}
	return w.text[w.ends[i-1]:w.ends[i]]
}

// phrase is one word of a search as a person typed it: "disk", "di*", or one
// that is several words here, such as "user_id", which must then stand
// together and in order.
type phrase struct {
	words  [][]byte // at least one
	prefix bool     // the last word only begins like this
}

// parseSearch reads what a person typed: words separated by spaces. There are
// no operators: what is no letter or digit only separates words.
func parseSearch(q string) ([]phrase, error) {
	if len(q) > MaxSearchBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrSearch, len(q), MaxSearchBytes)
	}
	if !utf8.ValidString(q) {
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrSearch)
	}
	var out []phrase
	var w words
	total := 0
	for field := range strings.FieldsSeq(q) {
		n := w.split(field)
		if n == 0 {
			continue
		}
		p := phrase{prefix: strings.HasSuffix(field, "*")}
		for i := range n {
			p.words = append(p.words, bytes.Clone(w.at(i)))
		}
		out = append(out, p)
		total += n
	}
	switch {
	case total == 0:
		return nil, fmt.Errorf("%w: it has no word; a word has letters or digits", ErrSearch)
	case total > maxSearchWords:
		return nil, fmt.Errorf("%w: it has %d words, at most %d are allowed", ErrSearch, total, maxSearchWords)
	}
	return out, nil
}

// in reports whether the phrase occurs among the words of w.
func (p phrase) in(w *words) bool {
	for i := 0; i+len(p.words) <= len(w.ends); i++ {
		if p.at(w, i) {
			return true
		}
	}
	return false
}

func (p phrase) at(w *words, i int) bool {
	last := len(p.words) - 1
	for j, want := range p.words {
		have := w.at(i + j)
		if j == last && p.prefix {
			return bytes.HasPrefix(have, want)
		}
		if !bytes.Equal(have, want) {
			return false
		}
	}
	return true
}

// searchable is the text of a message as people search it. In JSON, an escape
// is not what it spells: "caf\u00e9" is found as café, and "a\nb" is two words.
func searchable(message string) string {
	if message == "" || strings.IndexByte(`{["`, message[0]) < 0 || strings.IndexByte(message, '\\') < 0 ||
		!json.Valid([]byte(message)) {
		return message
	}
	out := make([]byte, 0, len(message))
	for i := 0; i < len(message); i++ {
		if message[i] != '\\' {
			out = append(out, message[i])
			continue
		}
		i++ // valid JSON: something follows
		if message[i] != 'u' {
			out = append(out, ' ')
			continue
		}
		r := hexRune(message[i+1:])
		i += 4
		if utf16.IsSurrogate(r) && strings.HasPrefix(message[i+1:], `\u`) {
			if pair := utf16.DecodeRune(r, hexRune(message[i+3:])); pair != utf8.RuneError {
				r = pair
				i += 6
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}

// hexRune reads the four digits of an escape in valid JSON.
func hexRune(s string) rune {
	var r rune
	for _, b := range []byte(s[:4]) {
		switch {
		case b <= '9':
			b -= '0'
		case b <= 'F':
			b -= 'A' - 10
		default:
			b -= 'a' - 10
		}
		r = r<<4 | rune(b)
	}
	return r
}
