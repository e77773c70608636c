package proto_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

func TestParseClientFrame(t *testing.T) {
	for _, c := range []struct {
		name, frame string
		ok          bool
	}{
		{"subscribe", `{"type":"subscribe","channel":"orders.*"}`, true},
		{"subscribe to several", `{"type":"subscribe","channels":["a","b"],"since":"mib3k2x9-1024"}`, true},
		{"names are not checked here", `{"type":"subscribe","channel":"a..b"}`, true},
		{"unsubscribe", `{"type":"unsubscribe","channel":"orders.*"}`, true},
		{"ping", ` {"type":"ping"} `, true},
		{"auth", `{"type":"auth","token":"eyJ"}`, true},
		{"100 channels", `{"type":"subscribe","channels":["a"` + strings.Repeat(`,"a"`, 99) + `]}`, true},
		{"101 channels", `{"type":"subscribe","channels":["a"` + strings.Repeat(`,"a"`, 100) + `]}`, false},
		{"no channel", `{"type":"subscribe"}`, false},
		{"channel and channels", `{"type":"subscribe","channel":"a","channels":["b"]}`, false},
		{"auth without token", `{"type":"auth"}`, false},
		{"no type", `{"channel":"a"}`, false},
		{"unknown type", `{"type":"publish","channel":"a"}`, false},
		{"unknown member", `{"type":"ping","data":1}`, false},
		{"member in capitals", `{"TYPE":"ping"}`, false},
		{"member twice", `{"type":"ping","type":"auth"}`, false},
		{"member twice, once in capitals", `{"type":"subscribe","channel":"a","Channel":"b"}`, false},
		{"number for a string", `{"type":"subscribe","channel":1}`, false},
		{"two frames", `{"type":"ping"}{"type":"ping"}`, false},
		{"null", `null`, false},
		{"array", `[]`, false},
		{"deep", `{"type":"ping","since":` + nested(10000) + `}`, false},
		{"not UTF-8", "{\"type\":\"subscribe\",\"channel\":\"\xff\"}", false},
		{"empty", ``, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := proto.ParseClientFrame([]byte(c.frame))
			if (err == nil) != c.ok {
				t.Fatalf("got %+v, %v; want valid %v", f, err, c.ok)
			}
			if err != nil && (!errors.Is(err, proto.ErrFrame) || !reflect.DeepEqual(f, proto.ClientFrame{})) {
				t.Errorf("got %+v, %v; want an empty frame and ErrFrame", f, err)
			}
		})
	}
}

func FuzzClientFrame(f *testing.F) {
	for _, name := range []string{"client-subscribe", "client-unsubscribe", "client-ping", "client-auth"} {
		f.Add([]byte(readFile(f, "testdata/"+name+".json")))
	}
	f.Add([]byte(`{"type":"ping","type":"auth"}`))
	types := []string{proto.FrameSubscribe, proto.FrameUnsubscribe, proto.FramePing, proto.FrameAuth}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := proto.ParseClientFrame(b)
		if err != nil {
			if !errors.Is(err, proto.ErrFrame) {
				t.Fatalf("%v is not ErrFrame", err)
			}
			return
		}
		if !json.Valid(b) || !plain(b) || !slices.Contains(types, frame.Type) ||
			len(frame.Targets()) > proto.MaxChannels {
			t.Fatalf("accepted %q as %+v", b, frame)
		}
		again, err := json.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		// An empty array and none are written alike.
		back, err := proto.ParseClientFrame(again)
		if err != nil || back.Type != frame.Type || back.Since != frame.Since || back.Token != frame.Token ||
			!slices.Equal(back.Targets(), frame.Targets()) {
			t.Fatalf("written again as %s\n got %+v, %v\nwant %+v", again, back, err, frame)
		}
	})
}

// Who wrote the client reads what is wrong in JSON's words, not in Go's.
func TestClientFrameErrorsAreNotGos(t *testing.T) {
	for frame, want := range map[string]string{
		`[]`: "want a JSON object, got a JSON array", `"ping"`: "want a JSON object, got a JSON string",
		`1`:                                    "want a JSON object, got a JSON number",
		`{"type":1}`:                           "type is a JSON number; want a string",
		`{"type":"subscribe","channel":["a"]}`: "channel is a JSON array; want a string",
		`{"type":"subscribe","channels":"a"}`:  "channels has a JSON string; want an array of strings",
		`{"type":"subscribe","channels":["a",1]}`:       "channels has a JSON number; want an array of strings",
		`{"type":"subscribe","channel":"a","since":{}}`: "since is a JSON object; want a string",
	} {
		if _, err := proto.ParseClientFrame([]byte(frame)); err == nil || err.Error() != "invalid frame: "+want {
			t.Errorf("%s: got %v, want %q", frame, err, want)
		}
	}
}
