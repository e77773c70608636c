package natsx_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

// pack is a NATS message of a pack with one message for each channel.
func pack(channels ...string) *nats.Msg {
	var p proto.Pack
	for _, c := range channels {
		p.Add(message(c, `"on `+c+`"`),
			proto.Private{Source: "203.0.113.7", Accepted: time.UnixMicro(1795000000123456)})
	}
	return &nats.Msg{Subject: proto.SubjectPacks, Data: p.Body(),
		Header: nats.Header{proto.HeaderChannels: {string(p.AppendChannels(nil))}}}
}

// contents says what is in a pack: "sequence place channel message", each.
func contents(p natsx.Pack) (all []string) {
	for p.Next() {
		all = append(all, fmt.Sprintf("%d %d %s %s", p.Seq, p.Place(), p.Channel(), p.Message()))
	}
	return all
}

// Packs and messages that somebody published by their channel come live and by
// direct get, and read alike.
func TestOpenPack(t *testing.T) {
	s := natstest.Start(t)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	sub := live(t, nc)
	own := &nats.Msg{Subject: proto.SubjectStored + "a", Data: message("a", "1").AppendBody(nil),
		Header: nats.Header{proto.HeaderExpires: {"1795370316000"}, proto.HeaderSource: {"::1"}}}
	for _, msg := range []*nats.Msg{pack("a", "b", "a"), own} {
		if _, err := js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	want := [][]string{
		{
			`1 0 a {"channel":"a","event":"created","data":"on a","sender":"shop","time":"2026-11-22T16:58:36.123Z"}`,
			`1 1 b {"channel":"b","event":"created","data":"on b","sender":"shop","time":"2026-11-22T16:58:36.123Z"}`,
			`1 2 a {"channel":"a","event":"created","data":"on a","sender":"shop","time":"2026-11-22T16:58:36.123Z"}`,
		},
		{`2 0 a {"channel":"a","event":"created","data":1,"sender":"shop","time":"2026-11-22T16:58:36.123Z"}`},
	}
	for i := range want {
		fetched, err := nc.Request("$JS.API.DIRECT.GET."+proto.Stream, fmt.Appendf(nil, `{"seq":%d}`, i+1),
			time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for way, msg := range map[string]*nats.Msg{"live": next(t, sub), "fetched": fetched} {
			p, err := natsx.OpenPack(msg)
			if err != nil {
				t.Fatalf("%s: %v", way, err)
			}
			if got := contents(p); !slices.Equal(got, want[i]) {
				t.Errorf("%s\ngot  %q\nwant %q", way, got, want[i])
			}
			if p, _ := natsx.OpenPack(msg); i == 1 && (!p.Next() || p.Expires() != 1795370316000 ||
				string(p.Source()) != "::1" || p.Accepted() != 0) {
				t.Errorf("%s: expires %d, source %q, accepted %d", way, p.Expires(), p.Source(), p.Accepted())
			}
		}
	}
	ephemeral := pack("c")
	ephemeral.Subject = proto.SubjectLivePacks
	if err := nc.PublishMsg(ephemeral); err != nil {
		t.Fatal(err)
	}
	if p, err := natsx.OpenPack(next(t, sub)); err != nil || p.Seq != 0 || len(contents(p)) != 1 {
		t.Errorf("ephemeral: got sequence %d, %v", p.Seq, err)
	}
}

func TestOpenPackRefusesForeignMessages(t *testing.T) {
	for name, msg := range map[string]*nats.Msg{
		"another subject":       {Subject: "orders.eu", Data: []byte(`{"a":1}`)},
		"a subject below packs": {Subject: "herald.pack.a", Data: []byte(`{"a":1}`)},
		"no channel":            {Subject: "herald.live.msg.", Data: []byte(`{"a":1}`)},
		"not an object":         {Subject: "herald.live.msg.a", Data: []byte(`[1]`)},
		"an inbox, never stored": {Subject: "_INBOX.x", Data: []byte(`{"a":1}`),
			Header: nats.Header{"Nats-Subject": {proto.SubjectLivePacks}}},
		"a sequence that is none": {Subject: proto.SubjectLivePacks, Header: nats.Header{"Nats-Sequence": {"x"}}},
	} {
		if p, err := natsx.OpenPack(msg); !errors.Is(err, natsx.ErrForeign) || p.Next() {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// Who may publish ephemeral messages on one channel cannot speak on another.
	forged := &nats.Msg{Subject: "herald.live.msg.public.a", Data: []byte(`{"channel":"public.a"}`),
		Header: nats.Header{"Nats-Subject": {"herald.msg.secret"}, "Nats-Sequence": {"7"}}}
	if p, err := natsx.OpenPack(forged); err != nil || !p.Next() || string(p.Channel()) != "public.a" {
		t.Errorf("forged: got channel %q, %v", p.Channel(), err)
	}
}
