package proto

import (
	"bytes"
	"encoding/json"
)

// Marshal is json.Marshal without the escapes that keep JSON out of the way of
// HTML: "public.>" is to be read as it is. What Herald answers is never HTML.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// BOM is the byte order mark that some editors put in front of a text.
const BOM = "\ufeff"

// SkipBOM is b without a leading byte order mark, which RFC 8259 section 8.1
// allows readers to ignore.
func SkipBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte(BOM)) }
