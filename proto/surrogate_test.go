package proto_test

import (
	"errors"
	"regexp"
	"testing"

	"github.com/herald-push/herald/proto"
)

// Half a character would be altered on its way, so it is refused, wherever it
// stands, and the fault points there.
func TestLoneSurrogates(t *testing.T) {
	for _, c := range []struct {
		body  string
		field string // JSON pointer of the fault; "ok": none
	}{
		{`{"channel":"a","data":1,"event":"\ud83d"}`, "/event"},
		{`{"channel":"a","data":1,"event":"x\uD83D"}`, "/event"},
		{`{"channel":"\ud83d","data":1}`, "/channel"},
		{`{"channels":["a","\udbff"],"data":1}`, "/channels/1"},
		{`{"channel":"a","data":1,"id":"\udc00"}`, "/id"},
		{`{"channel":"a","data":"\ud83d"}`, "/data"},
		{`{"channel":"a","data":"\ude00\ud83d"}`, "/data"},
		{`{"channel":"a","data":"\ud83d\ud83d\ude00"}`, "/data"},
		{`{"channel":"a","data":"\ud83d\u0041"}`, "/data"},
		{`{"channel":"a","data":"\ud83dx"}`, "/data"},
		{`{"channel":"a","data":"\ud83d\\ude00"}`, "/data"},
		{`{"channel":"a","data":"\\\ud83d"}`, "/data"},
		{`{"channel":"a","data":{"a":[{},"x",{"b/c~d":[1,"\ud800"]}]}}`, "/data/a/2/b~1c~0d/1"},
		{`{"channel":"a","data":{"":{"\u0061":"\ud800"}}}`, "/data//a"},
		{`{"channel":"a","data":[{"k":1},{"\ud800":1}]}`, "/data/1"},
		{`{"channel":"a","data":{"\ud800":1,"\ud801":2}}`, "/data"},
		{`{"channel":"a","data":1,"\ud800":1}`, ""},
		{`{"channel":"a","data":"\ud83d\ude00 \uD83D\uDE00 \\ud83d \ue000 \ud7ff","event":"\ud83d\ude00"}`, "ok"},
	} {
		_, err := proto.ParsePublication([]byte(c.body), 1024)
		if c.field == "ok" {
			if err != nil {
				t.Errorf("%s: %v", c.body, err)
			}
			continue
		}
		var fault *proto.FieldError
		if !errors.As(err, &fault) || fault.Field != c.field {
			t.Errorf("%s: got %#v, want a fault at %q", c.body, err, c.field)
		}
	}
	p := proto.Publication{Channel: "a", Data: []byte(`[0,"\ud83d"]`)}
	var fault *proto.FieldError
	if err := p.Check(1024); !errors.As(err, &fault) || fault.Field != "/data/1" {
		t.Errorf("Check: got %v, want a fault at /data/1", err)
	}
}

var escapes = regexp.MustCompile(
	`\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|(?s:.))`)

// paired is the model of checkSurrogates for valid JSON.
func paired(b []byte) bool {
	for _, m := range escapes.FindAllSubmatch(b, -1) {
		if len(m[1]) == len("ud83d") {
			return false
		}
	}
	return true
}
