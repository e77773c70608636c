package store

import (
	"database/sql"
	"encoding/json"
	"strings"

	"github.com/herald-push/herald/proto"
)

// Row is one row of messages: who sent what, when.
type Row struct {
	Message   string // a JSON string as its plain text, any other JSON as it is
	Sender    string
	Timestamp string // proto.TimeLayout, so that text order is time order
	Channel   string
	Event     string
	Epoch     string
	Seq       uint64
	Source    string // the publisher's IP address, "" if unknown
}

// ID is the message's id as clients know it, and a cursor of Query.
func (r *Row) ID() string { return r.key().String() }

func (r *Row) key() proto.Cursor { return proto.Cursor{Epoch: r.Epoch, Seq: r.Seq} }

// compareKeys orders keys as the stream does. Epochs are times in base 36:
// a longer one is later, and among equally long ones text order is time order.
func compareKeys(a, b proto.Cursor) int {
	if c := compareEpochs(a.Epoch, b.Epoch); c != 0 {
		return c
	}
	switch {
	case a.Seq < b.Seq:
		return -1
	case a.Seq > b.Seq:
		return 1
	}
	return 0
}

func compareEpochs(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// The columns of a Row; id is made of epoch and seq.
const (
	columns     = "message, sender, timestamp, channel, event, id, epoch, seq, source"
	readColumns = "message, sender, timestamp, channel, event, epoch, seq, source"
)

// text is the message as the file has it. A NUL would end the text for the
// sqlite3 shell and most of SQLite's functions, so a message with one is written
// as a JSON string: "a\u0000b", quotes included.
func (r *Row) text() string {
	if strings.IndexByte(r.Message, 0) < 0 {
		return r.Message
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(r.Message) // a string can always be written
	return strings.TrimSuffix(b.String(), "\n")
}

// appendArgs appends what insertSQL wants for each row.
func (r *Row) appendArgs(args []any) []any {
	return append(args, r.text(), r.Sender, r.Timestamp, r.Channel, r.Event, int64(r.Seq), r.Source)
}

func (r *Row) scan(rows *sql.Rows) error {
	return rows.Scan(&r.Message, &r.Sender, &r.Timestamp, &r.Channel, &r.Event, &r.Epoch, &r.Seq, &r.Source)
}
