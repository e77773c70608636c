package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

// Whatever is in a message, a terminal shows it and obeys none of it.
func TestNothingReachesTheTerminal(t *testing.T) {
	for _, text := range []string{
		"plain", "Zoë, 世界, 👩\u200d💻", "\x1b]0;title\x07", "\u009b31m", "a\x7fb\x00", "\u202etxt.exe", "\u2066x\u2069",
		"\u200f", "\ufeffbom",
		"\u2028line", "tag\U000e0041", "tab\tand\r\nbreak", "no \xff UTF-8",
	} {
		quoted, err := json.Marshal(map[string]string{"data": text})
		if err != nil {
			t.Fatal(err)
		}
		raw := []byte(`{"data":"` + strings.NewReplacer("\t", `\t`, "\r", `\r`, "\n", `\n`).Replace(text) + `"}`)
		for name, shown := range map[string]string{
			"text": onOneLine(text), "csv": string(replaced([]byte(text))), "json": string(escapedJSON(quoted)),
			"raw json": string(escapedJSON(raw)),
		} {
			if i := strings.IndexFunc(shown,
				func(r rune) bool { return obeyed(r) && !(name == "csv" && unicode.IsSpace(r)) }); i >= 0 {
				t.Errorf("%s of %q: got %q, with something to obey at %d", name, text, shown, i)
			}
		}
		if strings.ContainsRune(text, 0) || strings.ContainsRune(text, 0x1b) {
			continue // raw control characters are no JSON; with escapes they are
		}
		var before, after struct{ Data string }
		if err := json.Unmarshal(raw, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(escapedJSON(raw), &after); err != nil || before != after {
			t.Errorf("%q: got %q, %v: it must say the same", text, after.Data, err)
		}
	}
}
