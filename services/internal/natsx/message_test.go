package natsx_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

// live subscribes to everything that gateways hear.
func live(t *testing.T, nc *nats.Conn) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync("herald.live.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return sub
}

func next(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	msg, err := sub.NextMsg(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func message(channel, data string) *proto.Message {
	return &proto.Message{Channel: channel, Event: "created", Data: []byte(data), Sender: "shop",
		Time: "2026-11-22T16:58:36.123Z"}
}

func TestRoundTrip(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	sub := live(t, nc)
	accepted := time.UnixMicro(1795000000123456)
	headers := natstest.Headers{MsgID: "shop:order-17", TTL: 3600, Source: "203.0.113.7", Accepted: accepted,
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	m := message("orders.eu", `{"n":1}`)
	for i, duplicate := range []bool{false, true} { // the same idempotency key twice stores once
		ack, err := js.PublishMsg(t.Context(), natstest.NewMsg(m, headers, false))
		if err != nil || ack.Sequence != 1 || ack.Duplicate != duplicate {
			t.Fatalf("publish %d: got %+v, %v", i, ack, err)
		}
	}
	headers.MsgID = ""
	if _, err := js.PublishMsg(t.Context(), natstest.NewMsg(message("orders.us", `2`), headers, false)); err != nil {
		t.Fatal(err)
	}
	if _, err := js.PublishMsg(t.Context(), natstest.NewMsg(m, headers, false)); err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishMsg(natstest.NewMsg(m, headers, true)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		channel string
		seq     uint64
	}{{"orders.eu", 1}, {"orders.us", 2}, {"orders.eu", 3}, {"orders.eu", 0}} {
		msg := next(t, sub)
		if got := msg.Header["Nats-Subject"]; want.seq != 0 && (len(got) != 1 || got[0] != "herald.msg."+want.channel) {
			t.Errorf("%d: Nats-Subject is %q", i, got)
		}
		for _, h := range []string{"Nats-Sequence", "Nats-Last-Sequence", "Nats-Subject"} {
			if got := len(msg.Header[h]); got != map[bool]int{true: 1, false: 0}[want.seq != 0] {
				t.Errorf("%d: %d headers %s", i, got, h)
			}
		}
		r := received(t, msg)
		if r.Channel != want.channel || r.Number != proto.Number(want.seq, 0) || !r.Accepted.Equal(accepted) ||
			r.Source != headers.Source || r.Trace != headers.Traceparent {
			t.Errorf("%d: got %+v, want %+v", i, r, want)
		}
		back, err := proto.ParseMessage(proto.AppendWithID(nil, proto.Cursor{Epoch: "e", Seq: r.Number}, r.Body))
		if err != nil || want.seq > 0 && back.ID != (proto.Cursor{Epoch: "e", Seq: r.Number}).String() ||
			back.Channel != want.channel || back.Sender != "shop" || back.Event != "created" {
			t.Errorf("%d: got %+v, %v", i, back, err)
		}
	}
	if msg, err := sub.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("one too many: %+v", msg)
	}
}

func TestNewMsgLeavesOutWhatIsNotGiven(t *testing.T) {
	msg := natstest.NewMsg(message("a", "1"), natstest.Headers{}, false)
	if len(msg.Header) != 0 || msg.Subject != "herald.msg.a" {
		t.Errorf("got %s %v", msg.Subject, msg.Header)
	}
	msg = natstest.NewMsg(message("a", "1"), natstest.Headers{MsgID: "x", TTL: 5}, true)
	if len(msg.Header) != 0 || msg.Subject != "herald.live.msg.a" {
		t.Errorf("ephemeral: got %s %v; there is nobody to remember or to forget it", msg.Subject, msg.Header)
	}
}

// received is the one message of a NATS message.
func received(t *testing.T, msg *nats.Msg) natsx.Received {
	t.Helper()
	p, err := natsx.OpenPack(msg)
	if err != nil || !p.Next() {
		t.Fatalf("got %+v, %v", p, err)
	}
	r, ok := natsx.ReceivedOf(&p)
	if !ok || p.Next() {
		t.Fatalf("got %+v, %v", r, ok)
	}
	return r
}

func TestTTL(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	store := func(ttl int64, accepted time.Time) {
		t.Helper()
		m := natstest.NewMsg(message("a", "1"), natstest.Headers{TTL: ttl, Accepted: accepted}, false)
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	store(60, time.Now().Add(-time.Hour))
	store(60, time.Now())
	store(0, time.Now())
	page, err := natsx.NewReader(nc, nil).Read(t.Context(), natsx.Range{Names: []string{"a"}, UpTo: proto.EndOf(3),
		Messages: 10})
	if err != nil || !slices.Equal(seqs(page.Messages), []uint64{2, 3}) || page.End != proto.EndOf(3) ||
		page.Missing != 0 {
		t.Errorf("got %v, %v; want what has not expired, and nothing missing", page, err)
	}
}

func TestReadRefusesForeignMessages(t *testing.T) {
	for _, c := range []struct {
		name, subject, body string
		header              nats.Header
		seq                 uint64 // what is known all the same
	}{
		{"another subject", "orders.eu", `{"a":1}`, nil, 0},
		{"another subject that begins alike", "herald.lively.a", `{"a":1}`, nil, 0},
		{"no channel", "herald.live.msg.", `{"a":1}`, nil, 0},
		{"bad channel", "herald.live.msg.a'b", `{"a":1}`, nil, 0},
		{"channel that is too long", "herald.live.msg." + strings.Repeat("a", 256), `{"a":1}`, nil, 0},
		{"empty body", "herald.live.msg.a", "", nil, 0},
		{"one brace", "herald.live.msg.a", "{", nil, 0},
		{"text", "herald.live.msg.a", "hello", nil, 0},
		{"array", "herald.live.msg.a", `["a"]`, nil, 0},
		{"no members", "herald.live.msg.a", `{}`, nil, 0},
		{"no members, blanks", "herald.live.msg.a", "{ \t\r\n}", nil, 0},
		{"no member name", "herald.live.msg.a", `{,"a":1}`, nil, 0},
		{"cut off", "herald.live.msg.a", `{"a":1`, nil, 0},
		{"trailing line break", "herald.live.msg.a", "{\"a\":1}\n", nil, 0},
		{"sequence 0", "herald.live.msg.a", `{"a":1}`, nats.Header{"Nats-Sequence": {"0"}}, 0},
		{"sequence is no number", "herald.live.msg.a", `{"a":1}`, nats.Header{"Nats-Sequence": {"-1"}}, 0},
		{"stored text", "herald.live.msg.a", "hello", nats.Header{"Nats-Sequence": {"7"}}, 7},
		{"inbox without subject", "_INBOX.x", `{"a":1}`, nats.Header{"Nats-Sequence": {"7"}}, 7},
		{"inbox with another subject", "_INBOX.x", `{"a":1}`, nats.Header{"Nats-Subject": {"orders.eu"}}, 0},
		{"inbox with a live subject, which is never stored", "_INBOX.x", `{"a":1}`,
			nats.Header{"Nats-Subject": {"herald.live.msg.a"}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := natsx.OpenPack(&nats.Msg{Subject: c.subject, Header: c.header, Data: []byte(c.body)})
			if !errors.Is(err, natsx.ErrForeign) {
				t.Errorf("got %+v, %v", p, err)
			}
			if p.Seq != c.seq || p.Next() {
				t.Errorf("got %+v, want nothing but sequence %d", p, c.seq)
			}
		})
	}
	for _, body := range []string{`{"a":1}`, "{ \n\"channel\": \"a\" }"} {
		if _, err := natsx.OpenPack(&nats.Msg{Subject: "herald.live.msg.a", Data: []byte(body)}); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Somebody who may publish to NATS writes the headers that the server sets
// itself. Neither the live message nor the fetched one may take theirs.
func TestForgedServerHeaders(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	sub := live(t, nc)
	forged := &nats.Msg{Subject: "herald.msg.public.a", Data: []byte(`{"channel":"public.a"}`), Header: nats.Header{
		"Nats-Sequence": {"999"}, "Nats-Last-Sequence": {"998"}, "Nats-Subject": {"herald.msg.secret"},
		"Status": {"204"}, "Nats-Num-Pending": {"7"},
	}}
	for range 2 {
		if _, err := js.PublishMsg(t.Context(), forged); err != nil {
			t.Fatal(err)
		}
	}
	for want := uint64(1); want <= 2; want++ {
		if r := received(t, next(t, sub)); r.Channel != "public.a" || r.Number != proto.Number(want, 0) {
			t.Errorf("live: got %+v", r)
		}
	}
	page, err := natsx.NewReader(nc, nil).Read(t.Context(), natsx.Range{Names: []string{">"}, UpTo: proto.EndOf(2),
		Messages: 10})
	if err != nil || len(page.Messages) != 2 {
		t.Fatalf("got %+v, %v", page, err)
	}
	for i, r := range page.Messages {
		if r.Channel != "public.a" || r.Number != proto.Number(uint64(i)+1, 0) {
			t.Errorf("fetched: got %+v", r)
		}
	}
	forged.Subject = "herald.live.msg.public.a"
	if err := nc.PublishMsg(&nats.Msg{Subject: forged.Subject, Data: forged.Data,
		Header: nats.Header{"Nats-Subject": {"herald.msg.secret"}}}); err != nil {
		t.Fatal(err)
	}
	if r := received(t, next(t, sub)); r.Channel != "public.a" || r.Number != 0 {
		t.Errorf("ephemeral: got %+v", r)
	}
}
