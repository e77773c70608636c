package proto

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
)

// binaryPrefix begins the text that stands for binary data (RFC 2397).
const binaryPrefix = "data:application/octet-stream;base64,"

// QuoteBinary is binary data as the data of a message: a JSON string with a data URL,
//
//	"data:application/octet-stream;base64,AQIDBA=="
//
// so that every client can read it, and no reader of JSON is surprised.
func QuoteBinary(b []byte) []byte {
	quoted := append(make([]byte, 0, len(binaryPrefix)+2+base64.StdEncoding.EncodedLen(len(b))), '"')
	quoted = base64.StdEncoding.AppendEncode(append(quoted, binaryPrefix...), b)
	return append(quoted, '"')
}

// Binary is the reverse of QuoteBinary. ok is false for all other data.
func Binary(data []byte) (b []byte, ok bool) {
	if !bytes.HasPrefix(data, []byte(`"`+binaryPrefix)) {
		return nil, false
	}
	var text string
	if json.Unmarshal(data, &text) != nil {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text[len(binaryPrefix):])
	return b, err == nil
}
