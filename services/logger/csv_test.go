package logger

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/logger/internal/store"
)

// Whatever separator a spreadsheet's locale has, no cell that it makes of a
// row begins with a formula.
func TestNoLocaleOpensAFormula(t *testing.T) {
	for _, message := range []string{
		"=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "＝1", "a;=1", "a;\"=1", "a; =1",
		"a\t=1", "a\n=1", "a\r\n=1", "a|@x",
		"\";=1;\"", "x;;=1", "a;\"\"=1", "=\"=1\"", "plain", "a, -1", `{"a":-1}`, "Zoë;＝1", "\"", "",
	} {
		line := string(appendCSV(nil, &store.Row{Message: message, Sender: message, Event: message, Source: message}))
		for separator, cells := range map[string][]string{",": readCSV(t, line, ','), ";": readCSV(t, line, ';'),
			"tab": readCSV(t, line, '\t'), "|": readCSV(t, line, '|')} {
			for _, cell := range cells {
				if first := strings.TrimLeft(cell, " \u00a0\""); first != "" &&
					strings.ContainsAny(first[:1], "=+-@") || strings.HasPrefix(first, "＝") {
					t.Errorf("%q, separator %s: the cell %q begins with a formula", message, separator, cell)
				}
			}
		}
		if cells := readCSV(t, line, ','); len(cells) != 9 ||
			strings.ReplaceAll(cells[0], "'", "") != strings.ReplaceAll(message, "\r\n", "\n") {
			t.Errorf("%q: got %q", message, cells)
		}
	}
	line := string(appendCSV(nil, &store.Row{Message: `say "hi", 1;2`, Channel: "a", Epoch: "e", Seq: 7}))
	if want := `"say ""hi"", 1;2","","","a","","e-7","e","7",""` + "\n"; line != want {
		t.Errorf("got %s, want %s", line, want)
	}
}

// readCSV is how a spreadsheet reads a file: text after a closing quote is
// part of the cell.
func readCSV(t *testing.T, text string, separator rune) (cells []string) {
	t.Helper()
	if separator == ',' { // by the letter
		r := csv.NewReader(strings.NewReader(text))
		records, err := r.ReadAll()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return slices.Concat(records...)
	}
	var cell strings.Builder
	quoted, begins := false, true
	for rest := []rune(text); len(rest) > 0; rest = rest[1:] {
		c := rest[0]
		switch {
		case quoted && c == '"' && len(rest) > 1 && rest[1] == '"':
			cell.WriteRune('"')
			rest = rest[1:]
		case quoted && c == '"':
			quoted = false
		case quoted:
			cell.WriteRune(c)
		case begins && c == '"':
			quoted = true
		case c == separator, c == '\n', c == '\r':
			cells = append(cells, cell.String())
			cell.Reset()
			begins = true
			continue
		default:
			cell.WriteRune(c)
		}
		begins = false
	}
	return append(cells, cell.String())
}
