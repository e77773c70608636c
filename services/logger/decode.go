package logger

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/nats-io/nats.go"
)

// maxSourceBytes is longer than any IP address with a zone.
const maxSourceBytes = 64

// stored is a NATS message as the stream delivers it: a pack, or a message that
// somebody published to the subject of its channel.
type stored struct {
	subject string
	header  nats.Header
	body    []byte
	seq     uint64
	time    time.Time // when the stream stored it
}

// appendRows appends the rows of what is stored. Each message has one, and what
// Herald did not make, too: that is logged with its text as it is, the channel of
// its subject and the time of the stream. foreign counts those.
func appendRows(rows []store.Row, epoch string, m stored) (_ []store.Row, foreign int) {
	first := len(rows)
	lines, err := natsx.OpenLines(m.subject, m.header, m.body)
	for err == nil && lines.Next() {
		r := store.Row{Epoch: epoch, Seq: proto.Number(m.seq, lines.Place())}
		if n := len(rows); n > first && rows[n-1].Source == string(lines.Source()) {
			r.Source = rows[n-1].Source // most messages of a pack have the same one
		} else if len(lines.Source()) <= maxSourceBytes {
			r.Source = string(lines.Source())
		}
		r.Channel = string(lines.Channel())
		if !fill(&r, lines.Message()) {
			r.Message = string(lines.Raw())
			foreign++
		}
		rows = append(rows, finish(r, m.time))
	}
	if len(rows) == first { // every pack has a row, so that one without is seen as a hole
		channel, _ := proto.ChannelOf(m.subject)
		r := store.Row{Epoch: epoch, Seq: proto.Number(m.seq, 0), Channel: channel, Message: string(m.body)}
		if source := m.header.Get(proto.HeaderSource); len(source) <= maxSourceBytes {
			r.Source = source
		}
		foreign++
		rows = append(rows, finish(r, m.time))
	}
	return rows, foreign
}

// finish gives a row the stream's time if it has none. SQLite stores any bytes as text;
// whoever reads the log wants UTF-8.
func finish(r store.Row, stored time.Time) store.Row {
	if r.Timestamp == "" {
		r.Timestamp = proto.FormatTime(stored)
	}
	for _, s := range []*string{&r.Message, &r.Channel, &r.Source} {
		if !utf8.ValidString(*s) {
			*s = strings.ToValidUTF8(*s, "\uFFFD")
		}
	}
	return r
}

// fill fills in what the message says, if Herald could have made it; a time that
// is none is left to the stream.
func fill(r *store.Row, message []byte) bool {
	msg, err := proto.ParseMessage(message)
	if err != nil || msg.Channel != r.Channel || len(msg.Data) == 0 ||
		proto.CheckEvent(msg.Event) != nil || proto.CheckName(msg.Sender) != nil {
		return false
	}
	r.Message, r.Event, r.Sender = plain(string(msg.Data)), msg.Event, msg.Sender
	if t, err := time.Parse(time.RFC3339, msg.Time); err == nil && t.UTC().Year() > 0 && t.UTC().Year() < 10_000 {
		r.Timestamp = proto.FormatTime(t)
	}
	return true
}

// plain is a JSON string as its text, and any other JSON as it is.
func plain(data string) string {
	if data[0] != '"' {
		return data
	}
	if strings.IndexByte(data, '\\') < 0 && utf8.ValidString(data) {
		return data[1 : len(data)-1]
	}
	var s string
	if err := json.Unmarshal([]byte(data), &s); err != nil {
		return data
	}
	return s
}
