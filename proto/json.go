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
