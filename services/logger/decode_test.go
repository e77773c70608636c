package logger

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/nats-io/nats.go"
)

func TestRowOfMessage(t *testing.T) {
	at := time.Date(2026, 11, 22, 16, 58, 36, 123456789, time.UTC)
	m := proto.Message{Channel: "orders.eu", Event: "created", Data: []byte(`"line\none \"two\""`), Sender: "shop", Time: "2026-11-22T16:00:00.000Z"}
	msg := natsx.NewMsg(&m, natsx.Headers{Source: "2001:db8::1", Accepted: at}, false)
	got, ok := rowOf("e", stored{subject: msg.Subject, header: msg.Header, body: msg.Data, seq: 7, time: at})
	want := Row{Message: "line\none \"two\"", Sender: "shop", Timestamp: "2026-11-22T16:00:00.000Z", Channel: "orders.eu", Event: "created", Epoch: "e", Seq: 7, Source: "2001:db8::1"}
	if !ok || got != want {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
	long := nats.Header{proto.HeaderSource: []string{strings.Repeat("x", 100)}}
	if got, _ := rowOf("e", stored{subject: msg.Subject, header: long, body: msg.Data, seq: 7, time: at}); got.Source != "" {
		t.Errorf("a source that is no address: got %q, want none", got.Source)
	}
}

func FuzzRowOfMessage(f *testing.F) {
	f.Add("herald.msg.orders", []byte(`{"channel":"orders","event":"message","data":"a","sender":"shop","time":"2026-11-22T16:58:36.123Z"}`), "1.2.3.4")
	f.Add("herald.msg.a", []byte(`{"channel":"a","event":"m","data":{"a":"\ud800"},"sender":"","time":"-2026-11-22T16:58:36Z"}`), "")
	f.Add("other", []byte{0xff, 0}, "\xff")
	at := time.Date(2026, 11, 22, 16, 58, 36, 0, time.UTC)
	f.Fuzz(func(t *testing.T, subject string, body []byte, source string) {
		before := slices.Clone(body)
		r, ok := rowOf("e", stored{subject: subject, header: nats.Header{proto.HeaderSource: []string{source}}, body: body, seq: 1, time: at})
		if !slices.Equal(body, before) {
			t.Error("the message was changed; others share it")
		}
		if _, err := time.Parse(proto.TimeLayout, r.Timestamp); err != nil || len(r.Timestamp) != len(proto.TimeLayout) {
			t.Errorf("timestamp: got %q", r.Timestamp)
		}
		for _, s := range []string{r.Message, r.Channel, r.Sender, r.Event, r.Source} {
			if strings.ToValidUTF8(s, "") != s {
				t.Errorf("got %q, want UTF-8", s)
			}
		}
		if ok && (proto.CheckChannel(r.Channel) != nil || proto.CheckName(r.Sender) != nil || proto.CheckName(r.Event) != nil) {
			t.Errorf("accepted as Herald's: %+v", r)
		}
	})
}

// What is taken apart without parsing is what parsing would make of it.
func TestTakeApartIsParse(t *testing.T) {
	for _, c := range []struct {
		name string
		body string
		fast bool
	}{
		{"a message", `{"channel":"c","event":"e","data":{"n":1},"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, true},
		{"a string", `{"channel":"c","event":"e","data":"a","sender":"s","time":"2026-11-22T16:58:36.123Z"}`, true},
		{"an empty string", `{"channel":"c","event":"e","data":"","sender":"s","time":"2026-11-22T16:58:36.123Z"}`, true},
		{"escapes", `{"channel":"c","event":"e","data":"a\u00e9\n","sender":"s","time":"2026-11-22T16:58:36.123Z"}`, true},
		{"null", `{"channel":"c","event":"e","data":null,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, true},
		{"members within the data", `{"channel":"c","event":"e","data":[",\"sender\":\"x", {"data":1,"sender":"y","time":"z"}],"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, true},
		{"no UTF-8 in the data", "{\"channel\":\"c\",\"event\":\"e\",\"data\":\"\xff\xff\",\"sender\":\"s\",\"time\":\"2026-11-22T16:58:36.123Z\"}", true},
		{"another channel", `{"channel":"d","event":"e","data":1,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"the members in another order", `{"event":"e","channel":"c","data":1,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"one more member", `{"channel":"c","event":"e","data":1,"more":2,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"the data twice", `{"channel":"c","event":"e","data":1,"data":2,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"spaces", `{"channel":"c","event":"e","data": 1 ,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"no data", `{"channel":"c","event":"e","data":,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"broken data", `{"channel":"c","event":"e","data":{"n":},"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"no sender", `{"channel":"c","event":"e","data":1,"sender":"","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"an escape in a name", `{"channel":"c","event":"\u0065","data":1,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"another zone", `{"channel":"c","event":"e","data":1,"sender":"s","time":"2026-11-22T16:58:36+01:00"}`, false},
		{"a time that is none", `{"channel":"c","event":"e","data":1,"sender":"s","time":"2026-02-30T16:58:36.123Z"}`, false},
		{"the year 0", `{"channel":"c","event":"e","data":1,"sender":"s","time":"0000-11-22T16:58:36.123Z"}`, false},
		{"something behind it", `{"channel":"c","event":"e","data":1,"sender":"s","time":"2026-11-22T16:58:36.123Z"} `, false},
		{"nothing", ``, false},
		{"cut off", `{"channel":"c"`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r store.Row
			r.Channel = "c"
			if got := takeApart(&r, []byte(c.body)); got != c.fast {
				t.Errorf("taken apart: got %v, want %v", got, c.fast)
			}
			checkTakeApart(t, "c", []byte(c.body))
		})
	}
}

// checkTakeApart fails if a body can be taken apart, and parsing it makes
// another row.
func checkTakeApart(t *testing.T, channel string, body []byte) {
	t.Helper()
	got, want := store.Row{Channel: channel}, store.Row{Channel: channel}
	if !takeApart(&got, body) {
		return
	}
	if ok := parse(&want, body); !ok || got != want {
		t.Errorf("%q: taken apart %+v, parsed %+v, %v", body, got, want, ok)
	}
}

func FuzzTakeApart(f *testing.F) {
	f.Add("orders", []byte(`{"channel":"orders","event":"message","data":"a","sender":"shop","time":"2026-11-22T16:58:36.123Z"}`))
	f.Add("a", []byte(`{"channel":"a","event":"m","data":{"sender":"\ud800,\"sender\":\""},"sender":"x","time":"2026-11-22T16:58:36.123Z"}`))
	f.Fuzz(func(t *testing.T, channel string, body []byte) {
		checkTakeApart(t, channel, body)
		if json.Valid(body) { // a strange value in a usual message
			m := proto.Message{Channel: channel, Event: "message", Data: body, Sender: "shop", Time: "2026-11-22T16:58:36.123Z"}
			checkTakeApart(t, channel, m.AppendBody(nil))
		}
	})
}

func BenchmarkRowOf(b *testing.B) {
	m := proto.Message{Channel: "orders.eu", Event: "message", Data: wordsOf(newRand(), 1), Sender: "shop", Time: "2026-11-22T16:58:36.123Z"}
	msg := natsx.NewMsg(&m, natsx.Headers{Source: "203.0.113.7", Accepted: time.Now()}, false)
	s := stored{subject: msg.Subject, header: msg.Header, body: msg.Data, seq: 7, time: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := rowOf("e", s); !ok {
			b.Fatal("it is foreign")
		}
	}
}
