package logger

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/nats-io/nats.go"
)

// rowOf is the row of a message that is stored by itself.
func rowOf(epoch string, m stored) (store.Row, bool) {
	rows, foreign := appendRows(nil, epoch, m)
	if len(rows) != 1 {
		panic(fmt.Sprintf("%d rows of one message", len(rows)))
	}
	return rows[0], foreign == 0
}

func TestRowOfMessage(t *testing.T) {
	at := time.Date(2026, 11, 22, 16, 58, 36, 123456789, time.UTC)
	m := proto.Message{Channel: "orders.eu", Event: "created", Data: []byte(`"line\none \"two\""`), Sender: "shop",
		Time: "2026-11-22T16:00:00.000Z"}
	msg := natstest.NewMsg(&m, natstest.Headers{Source: "2001:db8::1", Accepted: at}, false)
	got, ok := rowOf("e", stored{subject: msg.Subject, header: msg.Header, body: msg.Data, seq: 7, time: at})
	want := store.Row{Message: "line\none \"two\"", Sender: "shop", Timestamp: "2026-11-22T16:00:00.000Z",
		Channel: "orders.eu", Event: "created", Epoch: "e", Seq: proto.Number(7, 0), Source: "2001:db8::1"}
	if !ok || got != want {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
	long := nats.Header{proto.HeaderSource: []string{strings.Repeat("x", 100)}}
	if got, _ := rowOf("e", stored{subject: msg.Subject, header: long, body: msg.Data, seq: 7,
		time: at}); got.Source != "" {
		t.Errorf("a source that is no address: got %q, want none", got.Source)
	}
}

func FuzzRowOfMessage(f *testing.F) {
	f.Add("herald.msg.orders",
		[]byte(`{"channel":"orders","event":"message","data":"a","sender":"shop","time":"2026-11-22T16:58:36.123Z"}`),
		"1.2.3.4")
	f.Add("herald.msg.a",
		[]byte(`{"channel":"a","event":"m","data":{"a":"\ud800"},"sender":"","time":"-2026-11-22T16:58:36Z"}`), "")
	f.Add("other", []byte{0xff, 0}, "\xff")
	f.Add(proto.SubjectPacks,
		[]byte("{\"channel\":\"a\",\"event\":\"m\",\"data\":1,\"sender\":\"s\",\"time\":\"\"}\ta1 s\xff\n\n"), "")
	at := time.Date(2026, 11, 22, 16, 58, 36, 0, time.UTC)
	f.Fuzz(func(t *testing.T, subject string, body []byte, source string) {
		before := slices.Clone(body)
		header := nats.Header{proto.HeaderSource: []string{source}}
		rows, foreign := appendRows(nil, "e", stored{subject: subject, header: header, body: body, seq: 1, time: at})
		if len(rows) == 0 || len(rows) > proto.MaxPackMessages || foreign > len(rows) {
			t.Fatalf("got %d rows, %d foreign", len(rows), foreign)
		}
		if !slices.Equal(body, before) {
			t.Error("the message was changed; others share it")
		}
		for _, r := range rows {
			checkRow(t, r, foreign == 0)
		}
	})
}

func checkRow(t *testing.T, r store.Row, ok bool) {
	t.Helper()
	if _, err := time.Parse(proto.TimeLayout, r.Timestamp); err != nil || len(r.Timestamp) != len(proto.TimeLayout) {
		t.Errorf("timestamp: got %q", r.Timestamp)
	}
	for _, s := range []string{r.Message, r.Channel, r.Sender, r.Event, r.Source} {
		if strings.ToValidUTF8(s, "") != s {
			t.Errorf("got %q, want UTF-8", s)
		}
	}
	if ok && (proto.CheckChannel(r.Channel) != nil || proto.CheckName(r.Sender) != nil ||
		proto.CheckEvent(r.Event) != nil) {
		t.Errorf("accepted as Herald's: %+v", r)
	}
}

// Each message of a pack has a row, also one that Herald did not make; a pack
// with none at all has one, so that it is no hole.
func TestRowsOfPack(t *testing.T) {
	at := time.Date(2026, 11, 22, 16, 58, 36, 0, time.UTC)
	var pack proto.Pack
	for i, channel := range []string{"a", "b", "a"} {
		m := proto.Message{Channel: channel, Event: "message", Data: fmt.Append(nil, i), Sender: "shop",
			Time: "2026-11-22T16:00:00.000Z"}
		pack.Add(&m, proto.Private{Source: "::1", Accepted: at, Expires: at}) // expired ones, too
	}
	body := append(slices.Clone(pack.Body()), "something else\n"...)
	rows, foreign := appendRows(nil, "e", stored{subject: proto.SubjectPacks, body: body, seq: 5, time: at})
	var got []string
	for i, r := range rows {
		if r.Seq != proto.Number(5, i) || r.Epoch != "e" {
			t.Errorf("row %d: got %s", i, r.ID())
		}
		got = append(got, r.Channel+" "+r.Message+" "+r.Source)
	}
	if want := []string{"a 0 ::1", "b 1 ::1", "a 2 ::1", " something else ::1"}; !slices.Equal(got, want) ||
		foreign != 1 {
		t.Errorf("got %q, %d foreign, want %q", got, foreign, want)
	}
	if rows, foreign := appendRows(nil, "e", stored{subject: proto.SubjectPacks, seq: 6, time: at}); len(rows) != 1 ||
		foreign != 1 {
		t.Errorf("an empty pack: got %+v, %d foreign", rows, foreign)
	}
}

func BenchmarkRowOf(b *testing.B) {
	m := proto.Message{Channel: "orders.eu", Event: "message", Data: wordsOf(newRand(), 1), Sender: "shop",
		Time: "2026-11-22T16:58:36.123Z"}
	msg := natstest.NewMsg(&m, natstest.Headers{Source: "203.0.113.7", Accepted: time.Now()}, false)
	s := stored{subject: msg.Subject, header: msg.Header, body: msg.Data, seq: 7, time: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := rowOf("e", s); !ok {
			b.Fatal("it is foreign")
		}
	}
}
