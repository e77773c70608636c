package logger

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/herald-push/herald/services/logger/internal/store"
)

// csvHeader names the columns of an export: those of the table, in its order.
const csvHeader = "message,sender,timestamp,channel,event,id,epoch,seq,source\n"

// appendCSV writes a row as a line of CSV (RFC 4180). Every cell is quoted:
// encoding/csv quotes what has a comma, and a spreadsheet of a country that
// writes 1,5 uses the semicolon, or a tab, as the separator.
func appendCSV(b []byte, r *store.Row) []byte {
	for i, cell := range []string{r.Message, r.Sender, r.Timestamp, r.Channel, r.Event, r.ID(), r.Epoch,
		strconv.FormatUint(r.Seq, 10), r.Source} {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = appendCell(b, cell)
		b = append(b, '"')
	}
	return append(b, '\n')
}

// appendCell writes a cell between its quotes. It puts a ' before whatever a
// spreadsheet would read as a formula: a publisher must not run anything on
// the machine of whoever opens the export (OWASP, CSV injection). That is the
// cell's beginning, and what follows a separator of another locale: there the
// quotes of all cells but the first are text, and do not keep it together.
func appendCell(b []byte, cell string) []byte {
	begins := true // only spaces and quotes since the beginning or a separator
	for i := 0; i < len(cell); {
		r, n := utf8.DecodeRuneInString(cell[i:])
		if i == 0 && (r == '\t' || r == '\r') { // some skip them
			b = append(b, '\'')
		}
		switch {
		case begins && isFormula(r):
			b = append(b, '\'')
			begins = false
		case r == ';' || r == '|' || r == '\t' || r == '\n' || r == '\r':
			begins = true
		case r != ' ' && r != '"' && r != '\u00a0':
			begins = false
		}
		if r == '"' {
			b = append(b, '"')
		}
		b = append(b, cell[i:i+n]...)
		i += n
	}
	return b
}

// isFormula reports whether a cell that begins with r is computed; a wide
// letter counts as its narrow one where Chinese or Japanese is written.
func isFormula(r rune) bool {
	return r < utf8.RuneSelf && bytes.IndexByte([]byte("=+-@"), byte(r)) >= 0 || r == '＝' || r == '＋' || r == '－' ||
		r == '＠'
}
