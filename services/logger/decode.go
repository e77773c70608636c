package logger

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/nats-io/nats.go"
)

// maxSourceBytes is longer than any IP address with a zone.
const maxSourceBytes = 64

// stored is a message as the stream delivers it.
type stored struct {
	subject string
	header  nats.Header
	body    []byte
	seq     uint64
	time    time.Time // when the stream stored it
}

// rowOf makes the row of a message. Every stored message has one: what Herald
// did not make (ok is false) is logged with its body as it is, the channel of
// its subject and the time of the stream.
func rowOf(epoch string, m stored) (r store.Row, ok bool) {
	channel, _ := proto.ChannelOf(m.subject)
	r = store.Row{
		Message:   string(m.body),
		Timestamp: proto.FormatTime(m.time),
		Channel:   channel,
		Epoch:     epoch,
		Seq:       m.seq,
	}
	if source := m.header.Get(proto.HeaderSource); len(source) <= maxSourceBytes {
		r.Source = source
	}
	if msg, err := proto.ParseMessage(m.body); err == nil && msg.Channel == channel && len(msg.Data) > 0 &&
		proto.CheckName(msg.Event) == nil && proto.CheckName(msg.Sender) == nil {
		ok = true
		r.Message, r.Event, r.Sender = plain(msg.Data), msg.Event, msg.Sender
		if t, err := time.Parse(time.RFC3339, msg.Time); err == nil && t.UTC().Year() > 0 && t.UTC().Year() < 10_000 {
			r.Timestamp = proto.FormatTime(t)
		}
	}
	// SQLite takes anything; whoever reads the log wants UTF-8.
	for _, s := range []*string{&r.Message, &r.Channel, &r.Source} {
		*s = strings.ToValidUTF8(*s, "\uFFFD")
	}
	return r, ok
}

// plain is a JSON string as its text, and any other JSON as it is.
func plain(data json.RawMessage) string {
	if data[0] == '"' {
		var s string
		if err := json.Unmarshal(data, &s); err == nil {
			return s
		}
	}
	return string(data)
}
