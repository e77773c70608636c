package publish

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What nats-server writes when a message is stored (server/stream.go), and
// when it was stored before:
//
//	{"stream":"HERALD","seq":1024}
//	{"stream":"HERALD","seq":1024,"duplicate": true}
var (
	ackBegin     = []byte(`{"stream":"HERALD","seq":`)
	ackDuplicate = []byte(`,"duplicate": true}`)
)

// readAck reads an acknowledgement. One that has not exactly the usual
// form is decoded as JSON.
func readAck(m *nats.Msg) outcome {
	if rest, ok := bytes.CutPrefix(m.Data, ackBegin); ok {
		var seq uint64
		n := 0
		for n < len(rest) && n < 19 && '0' <= rest[n] && rest[n] <= '9' { // 19 digits never overflow
			seq = seq*10 + uint64(rest[n]-'0')
			n++
		}
		rest = rest[n:]
		stored := len(rest) == 1 && rest[0] == '}'
		if duplicate := bytes.Equal(rest, ackDuplicate); n > 0 && (stored || duplicate) {
			return outcome{seq: seq, duplicate: duplicate}
		}
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return outcome{err: jetstream.ErrNoStreamResponse}
	}
	var ack struct {
		Error *jetstream.APIError `json:"error"`
		jetstream.PubAck
	}
	switch err := json.Unmarshal(m.Data, &ack); {
	case err == nil && ack.Error != nil:
		return outcome{err: ack.Error}
	case err != nil, ack.Stream == "":
		return outcome{err: errors.Join(jetstream.ErrInvalidJSAck, err)}
	}
	return outcome{seq: ack.Sequence, duplicate: ack.Duplicate}
}
