package proto_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
)

func TestCheckData(t *testing.T) {
	for _, c := range []struct {
		name, data string
		ok         bool
	}{
		{"object", `{"n":1,"m":{"n":2}}`, true},
		{"string", `"a"`, true},
		{"null", `null`, true},
		{"spaces around", " [1, 2]\n", true},
		{"same key in two objects", `[{"a":1},{"a":1}]`, true},
		{"same text as key and value", `{"a":"a","b":"a"}`, true},
		{"brackets in a string", `{"a":"}{][,","b":"\"},{"}`, true},
		{"64 deep", nested(proto.MaxDepth), true},
		{"65 deep", nested(proto.MaxDepth + 1), false},
		{"65 siblings", "[" + strings.Repeat("[],", 64) + "[]]", true},
		{"key twice", `{"a":1,"a":2}`, false},
		{"key twice, once escaped", `{"a":1,"\u0061":2}`, false},
		{"empty key twice", `{"":1,"":2}`, false},
		{"key twice further in", `[1,{"b":{"a":1,"c":[],"a":2}}]`, false},
		{"empty", ``, false},
		{"two values", `1 2`, false},
		{"not UTF-8", "\"\xff\"", false},
		{"NaN", `NaN`, false},
		{"too long", `"` + strings.Repeat("a", 1023) + `"`, false},
		{"just not too long", `"` + strings.Repeat("a", 1022) + `"`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := proto.CheckData([]byte(c.data), 1024)
			if (err == nil) != c.ok {
				t.Errorf("got %v, want valid %v", err, c.ok)
			}
			if err != nil && !errors.Is(err, proto.ErrData) {
				t.Errorf("%v is not ErrData", err)
			}
		})
	}
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func TestCheckName(t *testing.T) {
	for s, ok := range map[string]bool{
		"message":                true,
		"order created":          true,
		"größer":                 true,
		strings.Repeat("a", 64):  true,
		strings.Repeat("a", 65):  false,
		strings.Repeat("ö", 33):  false, // bytes count
		"":                       false,
		"a\nb":                   false,
		"a\u0085b":               false,
		"a\u2028b":               false,
		`say "hi"`:               false,
		`it's`:                   false,
		`a\b`:                    false,
		"a\xffb":                 false,
		"a\x00":                  false,
		"\u007f":                 false,
		"emoji \U0001F4EF stays": true,
	} {
		if err := proto.CheckName(s); (err == nil) != ok || err != nil && !errors.Is(err, proto.ErrName) {
			t.Errorf("CheckName(%q): got %v, want valid %v", s, err, ok)
		}
		if err := proto.CheckEvent(s); len(s) < 65 && (err == nil) != ok {
			t.Errorf("CheckEvent(%q): got %v, want valid %v", s, err, ok)
		}
	}
	if proto.CheckEvent(strings.Repeat("a", 200)) != nil || proto.CheckEvent(strings.Repeat("a", 201)) == nil {
		t.Error("an event may have 200 bytes")
	}
}

func TestFormatTime(t *testing.T) {
	at := time.Date(2026, 11, 22, 17, 58, 36, 123_999_999, time.FixedZone("CET", 3600))
	if got, want := proto.FormatTime(at), "2026-11-22T16:58:36.123Z"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseMessageRefuses(t *testing.T) {
	for _, s := range []string{``, `[]`, `{"channel":"a..b"}`, `{"event":"message"}`, `{"channel":"a"} {}`} {
		if m, err := proto.ParseMessage([]byte(s)); err == nil {
			t.Errorf("ParseMessage(%s): got %+v, want an error", s, m)
		}
	}
}

// FuzzMessage builds messages from whatever the checks let through: without
// escaping anything, AppendBody and AppendWithID must yield JSON that reads
// back as what went in.
func FuzzMessage(f *testing.F) {
	f.Add("orders.eu", "message", `{"n":1}`, "shop", "mib3k2x9", uint64(1024))
	f.Add("a<b&c", "größer", " \"<\u2028>\" ", "a b", "", uint64(0))
	f.Fuzz(func(t *testing.T, channel, event, data, sender, epoch string, seq uint64) {
		if proto.CheckChannel(channel) != nil || proto.CheckEvent(event) != nil || proto.CheckName(sender) != nil ||
			proto.CheckData([]byte(data), proto.MaxMessageBytes) != nil {
			return
		}
		id, err := proto.ParseCursor(fmt.Sprintf("%s-%d", epoch, seq))
		if err != nil {
			id = proto.Cursor{}
		}
		m := proto.Message{Channel: channel, Event: event, Data: []byte(data), Sender: sender,
			Time: "2026-11-22T16:58:36.123Z"}
		frame := proto.AppendWithID([]byte("before "), id, m.AppendBody(nil))
		frame, ok := bytes.CutPrefix(frame, []byte("before "))
		if !ok || !json.Valid(frame) {
			t.Fatalf("not JSON: %s", frame)
		}
		got, err := proto.ParseMessage(frame)
		if err != nil {
			t.Fatalf("%s: %v", frame, err)
		}
		if id.Epoch != "" {
			m.ID = id.String()
		}
		m.Data = bytes.Trim(m.Data, " \t\r\n")
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("\n got %+v\nwant %+v", got, m)
		}
	})
}

func FuzzCheckData(f *testing.F) {
	for _, s := range []string{`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, nested(65), `["\ud83d\ude00","\ud83d"]`,
		`[{"a":"\\"},{"b":"\""}]`, "\"\xff\"", `1e999`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const maxBytes = 512
		want := len(b) <= maxBytes && utf8.Valid(b) && json.Valid(b) && plain(b) && paired(b)
		if err := proto.CheckData(b, maxBytes); (err == nil) != want {
			t.Fatalf("%q: got %v, want valid %v", b, err, want)
		}
	})
}

// plain is the model of checkNesting: valid JSON at most MaxDepth deep in
// which no object has a key twice, read token by token.
func plain(b []byte) bool {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var value func(depth int) bool
	value = func(depth int) bool {
		token, err := d.Token()
		delim, opens := token.(json.Delim)
		if err != nil || !opens {
			return err == nil
		}
		if depth == proto.MaxDepth {
			return false
		}
		keys := map[string]bool{}
		for d.More() {
			if delim == '{' {
				token, err := d.Token()
				key, _ := token.(string)
				if err != nil || keys[key] {
					return false
				}
				keys[key] = true
			}
			if !value(depth + 1) {
				return false
			}
		}
		_, err = d.Token()
		return err == nil
	}
	if !value(0) {
		return false
	}
	_, err := d.Token()
	return err == io.EOF
}

// What is read without parsing is what parsing would make of it.
func TestQuickMessage(t *testing.T) {
	for _, c := range []struct {
		name string
		body string
		fast bool
	}{
		{"a message", `{"channel":"c","event":"e","data":{"n":1},"sender":"s","time":"2026-11-22T16:58:36.123Z"}`,
			true},
		{"a string", `{"channel":"c","event":"e","data":"a","sender":"s","time":"2026-11-22T16:58:36.123Z"}`, true},
		{"an empty string", `{"channel":"c","event":"e","data":"","sender":"s","time":"2026-11-22T16:58:36.123Z"}`,
			true},
		{"escapes", `{"channel":"c","event":"e","data":"a\u00e9\n","sender":"s","time":"2026-11-22T16:58:36.123Z"}`,
			true},
		{"null", `{"channel":"c","event":"e","data":null,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, true},
		{"members within the data",
			`{"channel":"c","event":"e","data":[",\"sender\":\"x", {"data":1,"sender":"y","time":"z"}],"sender":"s",` +
				`"time":"2026-11-22T16:58:36.123Z"}`, true},
		{"no UTF-8 in the data",
			`{"channel":"c","event":"e","data":"` + "\xff\xff" + `","sender":"s","time":"2026-11-22T16:58:36.123Z"}`,
			true},
		{"another channel", `{"channel":"d","event":"e","data":1,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`,
			false},
		{"the members in another order",
			`{"event":"e","channel":"c","data":1,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"one more member",
			`{"channel":"c","event":"e","data":1,"more":2,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"the data twice",
			`{"channel":"c","event":"e","data":1,"data":2,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"spaces", `{"channel":"c","event":"e","data": 1 ,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"no data", `{"channel":"c","event":"e","data":,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"broken data", `{"channel":"c","event":"e","data":{"n":},"sender":"s","time":"2026-11-22T16:58:36.123Z"}`,
			false},
		{"no sender", `{"channel":"c","event":"e","data":1,"sender":"","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"an escape in a name",
			`{"channel":"c","event":"\u0065","data":1,"sender":"s","time":"2026-11-22T16:58:36.123Z"}`, false},
		{"another zone", `{"channel":"c","event":"e","data":1,"sender":"s","time":"2026-11-22T16:58:36+01:00"}`, false},
		{"a time that is none", `{"channel":"c","event":"e","data":1,"sender":"s","time":"2026-02-30T16:58:36.123Z"}`,
			false},
		{"the year 0", `{"channel":"c","event":"e","data":1,"sender":"s","time":"0000-11-22T16:58:36.123Z"}`, false},
		{"something behind it", `{"channel":"c","event":"e","data":1,"sender":"s","time":"2026-11-22T16:58:36.123Z"} `,
			false},
		{"nothing", ``, false},
		{"cut off", `{"channel":"c"`, false},
	} {
		t.Run(c.name, func(t *testing.T) { checkQuick(t, []byte(c.body), c.fast) })
	}
}

// checkQuick fails if a body is read otherwise than by encoding/json. must is
// whether it has to be read without it: that takes no allocation for the parser.
func checkQuick(t *testing.T, body []byte, must bool) {
	t.Helper()
	got, err := proto.ParseMessage(body)
	var want proto.Message
	failed := json.Unmarshal(body, &want)
	if failed == nil {
		failed = proto.CheckChannel(want.Channel)
	}
	switch {
	case (err == nil) != (failed == nil):
		t.Errorf("%q: got %v, encoding/json says %v", body, err, failed)
	case err != nil && must:
		t.Errorf("%q: %v", body, err)
	case err == nil && (got.ID != want.ID || got.Channel != want.Channel || got.Event != want.Event ||
		got.Sender != want.Sender || got.Time != want.Time || !bytes.Equal(got.Data, want.Data)):
		t.Errorf("%q: got %+v, encoding/json says %+v", body, got, want)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add("orders", []byte(`{"channel":"orders","event":"message","data":"a","sender":"shop",`+
		`"time":"2026-11-22T16:58:36.123Z"}`))
	f.Add("a", []byte(`{"channel":"a","event":"m","data":{"sender":"\ud800,\"sender\":\""},"sender":"x",`+
		`"time":"2026-11-22T16:58:36.123Z"}`))
	f.Fuzz(func(t *testing.T, channel string, body []byte) {
		checkQuick(t, body, false)
		if json.Valid(body) { // a strange value in a usual message
			m := proto.Message{Channel: channel, Event: "message", Data: body, Sender: "shop",
				Time: "2026-11-22T16:58:36.123Z"}
			checkQuick(t, m.AppendBody(nil), false)
		}
	})
}
