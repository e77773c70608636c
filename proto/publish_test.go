package proto_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

func TestParsePublication(t *testing.T) {
	channels := make([]string, proto.MaxChannels+1)
	for i := range channels {
		channels[i] = fmt.Sprintf(`"c%d"`, i)
	}
	list := func(n int) string { return "[" + strings.Join(channels[:n], ",") + "]" }
	for _, c := range []struct {
		name, body string
		field      string // JSON pointer of the fault; "ok": none
	}{
		{"smallest", `{"channel":"a","data":null}`, "ok"},
		{"everything", `{"channel":"a","data":{"n":1},"event":"created","id":"order-17","ephemeral":true,"ttl":3600}`,
			"ok"},
		{"several channels", `{"channels":["a","b"],"data":1}`, "ok"},
		{"100 channels", `{"channels":` + list(100) + `,"data":1}`, "ok"},
		{"101 channels", `{"channels":` + list(101) + `,"data":1}`, "/channels"},
		{"data 64 deep", `{"channel":"a","data":` + nested(proto.MaxDepth) + `}`, "ok"},
		{"data 65 deep", `{"channel":"a","data":` + nested(proto.MaxDepth+1) + `}`, ""},
		{"a year", `{"channel":"a","data":1,"ttl":31622400}`, "ok"},
		{"more than a year", `{"channel":"a","data":1,"ttl":31622401}`, "/ttl"},
		{"negative ttl", `{"channel":"a","data":1,"ttl":-1}`, "/ttl"},
		{"ttl with a fraction", `{"channel":"a","data":1,"ttl":1.5}`, "/ttl"},
		{"ttl as text", `{"channel":"a","data":1,"ttl":"60"}`, "/ttl"},
		{"no channel", `{"data":1}`, "/channel"},
		{"no channels", `{"channels":[],"data":1}`, "/channel"},
		{"both", `{"channel":"a","channels":["b"],"data":1}`, "/channels"},
		{"empty channel", `{"channel":"","data":1}`, "/channel"},
		{"channel null", `{"channel":null,"data":1}`, "/channel"},
		{"channel with wildcard", `{"channel":"a.*","data":1}`, "/channel"},
		{"third channel wrong", `{"channels":["a","b","c d"],"data":1}`, "/channels/2"},
		{"a channel null", `{"channels":["a",null],"data":1}`, "/channels/1"},
		{"a channel twice", `{"channels":["a","b","a"],"data":1}`, "/channels/2"},
		{"no data", `{"channel":"a"}`, "/data"},
		{"data too long", `{"channel":"a","data":"` + strings.Repeat("x", 1023) + `"}`, "/data"},
		{"event with quote", `{"channel":"a","data":1,"event":"it's"}`, "/event"},
		{"empty event", `{"channel":"a","data":1,"event":""}`, "/event"},
		{"id with space", `{"channel":"a","data":1,"id":"a b"}`, "/id"},
		{"id of 128 bytes", `{"channel":"a","data":1,"id":"` + strings.Repeat("x", 128) + `"}`, "ok"},
		{"id of 129 bytes", `{"channel":"a","data":1,"id":"` + strings.Repeat("x", 129) + `"}`, "/id"},
		{"ephemeral null", `{"channel":"a","data":1,"ephemeral":null}`, "/ephemeral"},
		{"unknown member", `{"channel":"a","data":1,"topic":"x"}`, "/topic"},
		{"unknown member, escaped", `{"channel":"a","data":1,"a/b~c":"x"}`, "/a~1b~0c"},
		{"member in capitals", `{"Channel":"a","data":1}`, "/Channel"},
		{"member twice", `{"channel":"a","data":1,"channel":"b"}`, ""},
		{"key twice in data", `{"channel":"a","data":{"k":1,"k":2}}`, ""},
		{"array", `[]`, ""},
		{"null", `null`, ""},
		{"cut off", `{"channel":"a","data":1`, ""},
		{"not UTF-8", "{\"channel\":\"a\",\"data\":\"\xff\"}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := proto.ParsePublication([]byte(c.body), 1024)
			if c.field == "ok" {
				if err != nil || p.Event == "" {
					t.Fatalf("got %+v, %v; want no error and an event", p, err)
				}
				return
			}
			var fault *proto.FieldError
			if !errors.As(err, &fault) || fault.Field != c.field {
				t.Fatalf("got %+v, %#v; want a fault at %q", p, err, c.field)
			}
			if !strings.HasPrefix(err.Error(), strings.TrimPrefix(c.field, "/")) {
				t.Errorf("%q does not begin with the member", err)
			}
		})
	}
}

func TestPublicationTargets(t *testing.T) {
	one, several := proto.Publication{Channel: "a"}, proto.Publication{Channels: []string{"b", "c"}}
	if got := one.Targets(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q, want a", got)
	}
	if got := several.Targets(); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("got %q, want b and c", got)
	}
}

func FuzzPublication(f *testing.F) {
	for _, s := range []string{
		`{"channel":"orders.eu","data":{"n":1},"event":"created","id":"order-17","ttl":3600}`,
		`{"channels":["a","b"],"data":"x","ephemeral":true}`,
		`{"channel":"a","data":1,"channel":"b"}`,
		`{"channel":"a","data":{"a":1,"\u0061":2}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		lent := slices.Clone(b)
		p, err := proto.ParsePublication(lent, 4096)
		if err != nil {
			var fault *proto.FieldError
			if !errors.As(err, &fault) {
				t.Fatalf("%v is not a *FieldError", err)
			}
			return
		}
		if proto.CheckData(p.Data, 4096) != nil || !plain(p.Data) {
			t.Fatalf("accepted data %q", p.Data)
		}
		targets := p.Targets()
		if len(targets) == 0 || len(targets) > proto.MaxChannels ||
			len(slices.Compact(slices.Sorted(slices.Values(targets)))) != len(targets) {
			t.Fatalf("accepted channels %q", targets)
		}
		for _, channel := range targets {
			m := proto.Message{Channel: channel, Event: p.Event, Data: p.Data, Sender: "fuzz",
				Time: "2026-11-22T16:58:36.123Z"}
			if got, err := proto.ParseMessage(m.AppendBody(nil)); err != nil || !reflect.DeepEqual(got, m) {
				t.Fatalf("as a message\n got %+v, %v\nwant %+v", got, err, m)
			}
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		// Marshal escapes < > & in data, so it may be longer than it was.
		if q, err := proto.ParsePublication(again, len(again)); err != nil || q.Event != p.Event ||
			!slices.Equal(q.Targets(), targets) {
			t.Fatalf("written again as %s\n got %+v, %v\nwant %+v", again, q, err, p)
		}
		clear(lent)
		if q, err := proto.ParsePublication(b, 4096); err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("the publication kept a reference to its bytes: %+v", p)
		}
	})
}
