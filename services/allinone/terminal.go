package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// obeyed reports whether a terminal, or the text around it, would obey a
// character instead of showing it: control characters (C0, DEL, C1), and
// format characters, which turn the order of a line around or hide in it. The
// two joiners are part of ordinary writing (Persian, Hindi, emoji).
func obeyed(r rune) bool {
	switch r {
	case '\u200c', '\u200d':
		return false
	case '\u2028', '\u2029':
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf)
}

// onOneLine is text for a line of its own: line breaks are shown, and what a
// terminal would obey is replaced.
func onOneLine(text string) string {
	var b []byte
	for _, r := range text {
		switch {
		case r == '\n':
			b = append(b, " ⏎ "...)
		case obeyed(r):
			b = utf8.AppendRune(b, utf8.RuneError)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return string(b)
}

// escapedJSON is a JSON text on one line, in which what a terminal would obey
// is written as \u escapes: to a JSON reader it says the same.
func escapedJSON(text []byte) []byte {
	clean := func(r rune) bool { return !obeyed(r) && r != utf8.RuneError }
	if bytes.IndexFunc(text, func(r rune) bool { return !clean(r) }) < 0 {
		return text
	}
	var b []byte
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		text = text[n:]
		switch {
		case r == '\n' || r == '\r' || r == '\t': // only between values, where JSON allows it
			b = append(b, ' ')
		case clean(r) || r == utf8.RuneError: // bytes that are no UTF-8 become U+FFFD
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}

// harmlessLines copies an export line by line: NDJSON with escapes, CSV (whose
// cells may have line breaks) with a replacement for what a terminal would
// obey. It returns how many lines there were.
func harmlessLines(to io.Writer, from io.Reader, json bool) (lines int, err error) {
	in, out := bufio.NewReaderSize(from, 64<<10), bufio.NewWriterSize(to, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			lines++
			ending := line[len(bytes.TrimRight(line, "\r\n")):]
			line = line[:len(line)-len(ending)]
			if json {
				line = escapedJSON(line)
			} else {
				line = replaced(line)
			}
			if _, err := out.Write(append(line, ending...)); err != nil {
				return lines, err
			}
		}
		if err == io.EOF {
			return lines, out.Flush()
		}
		if err != nil {
			_ = out.Flush() // what came is shown; the first error counts
			return lines, err
		}
	}
}

// replaced is a line of CSV without what a terminal would obey.
func replaced(line []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if obeyed(r) && r != '\t' {
			return utf8.RuneError
		}
		return r
	}, line)
}
