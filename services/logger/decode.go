package logger

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

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
	r = store.Row{Channel: channel, Epoch: epoch, Seq: m.seq}
	if source := m.header.Get(proto.HeaderSource); len(source) <= maxSourceBytes {
		r.Source = source
	}
	if ok = takeApart(&r, m.body); !ok {
		ok = parse(&r, m.body)
	}
	if !ok {
		r.Message = string(m.body)
	}
	if r.Timestamp == "" {
		r.Timestamp = proto.FormatTime(m.time)
	}
	// SQLite takes anything; whoever reads the log wants UTF-8.
	for _, s := range []*string{&r.Message, &r.Channel, &r.Source} {
		if !utf8.ValidString(*s) {
			*s = strings.ToValidUTF8(*s, "\uFFFD")
		}
	}
	return r, ok
}

// parse fills in what the body says, if Herald could have made it; a time
// that is none is left to the stream.
func parse(r *store.Row, body []byte) bool {
	msg, err := proto.ParseMessage(body)
	if err != nil || msg.Channel != r.Channel || len(msg.Data) == 0 ||
		proto.CheckName(msg.Event) != nil || proto.CheckName(msg.Sender) != nil {
		return false
	}
	r.Message, r.Event, r.Sender = plain(string(msg.Data)), msg.Event, msg.Sender
	if t, err := time.Parse(time.RFC3339, msg.Time); err == nil && t.UTC().Year() > 0 && t.UTC().Year() < 10_000 {
		r.Timestamp = proto.FormatTime(t)
	}
	return true
}

// The members of a message around its data, as proto.Message.AppendBody
// writes them.
const (
	beforeChannel = `{"channel":"`
	beforeEvent   = `","event":"`
	beforeData    = `","data":`
	beforeSender  = `,"sender":"`
	beforeTime    = `","time":"`
	atEnd         = `"}`
)

// takeApart is parse for a body that looks exactly like what Herald writes,
// which is nearly every one: no name in it can have a quote, so the data lies
// between the first and the last members. It costs a fifth of what parsing
// does. The row's strings share one copy of the body. What it reports false
// for may still be a message.
func takeApart(r *store.Row, body []byte) bool {
	head := len(beforeChannel) + len(r.Channel)
	tail := len(body) - len(beforeTime) - len(proto.TimeLayout) - len(atEnd)
	if tail < head || string(body[:len(beforeChannel)]) != beforeChannel || string(body[len(beforeChannel):head]) != r.Channel ||
		string(body[tail:tail+len(beforeTime)]) != beforeTime || string(body[len(body)-len(atEnd):]) != atEnd {
		return false
	}
	event, rest, ok := bytes.Cut(body[head:tail], []byte(beforeData))
	if !ok || !bytes.HasPrefix(event, []byte(beforeEvent)) {
		return false
	}
	i := bytes.LastIndex(rest, []byte(beforeSender))
	if i <= 0 || space(rest[0]) || space(rest[i-1]) || !json.Valid(rest[:i]) {
		return false
	}
	text := string(body)
	name := text[head+len(beforeEvent) : head+len(event)]
	begin := head + len(event) + len(beforeData)
	data, sender := text[begin:begin+i], text[begin+i+len(beforeSender):tail]
	at := text[tail+len(beforeTime) : len(text)-len(atEnd)]
	if proto.CheckChannel(r.Channel) != nil || proto.CheckName(name) != nil || proto.CheckName(sender) != nil || !isTime(at) {
		return false
	}
	r.Message, r.Event, r.Sender, r.Timestamp = plain(data), name, sender, at
	return true
}

// space is JSON's.
func space(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// isTime reports whether s is a time in proto.TimeLayout. time.Parse alone
// takes more than that.
func isTime(s string) bool {
	if len(s) != len(proto.TimeLayout) {
		return false
	}
	for i := range len(s) {
		switch want := proto.TimeLayout[i]; {
		case '0' <= want && want <= '9':
			if s[i] < '0' || s[i] > '9' {
				return false
			}
		case s[i] != want:
			return false
		}
	}
	t, err := time.Parse(time.RFC3339, s)
	return err == nil && t.Year() > 0
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
