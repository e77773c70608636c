package proto

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ordinary is what the quick readers must not decline, or they would be slow.
var ordinary = []string{
	`{"channel":"orders.eu","data":{"n":1},"event":"created","id":"order-17","ttl":3600}`,
	`{"channels":["a","b"],"data":[1,-2.5e+3,0.1E-2,true,false,null,"\u00e4\n\"\\",{}],"ephemeral":true}`,
	" {\r\n\t\"channel\" : \"a\" , \"data\" : [ [ ] , { } ] } \n",
	`{"channel":"a","data":"grün 😀"}`,
	`{"channel":"a","data":"\ud83d\ude00 \uD83D\uDE00"}`,
	`{"channel":"a","data":0}`,
	`{"channel":"a","data":{"a":{"b":{"c":{"d":{"e":[{}]}}}}}}`,
}

// unusual is what they decline, rightly or to be on the safe side.
var unusual = []string{
	"", " ", "{", "[]", "null", `{}{}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{1:2}`,
	"{\"channel\":\"a\",\"data\":\"\xff\"}", "{\"a\":\"\n\"}", `{"a":"\x"}`, `{"a":"\u12g4"}`, `{"a":"\u12`,
	`{"a":"\`, `{"a":"b`,
	`{"channel":"a","data":1,"channel":"b"}`, `{"channel":"a","data":{"k":1,"k":2}}`,
	`{"channel":"a","data":{"k":1,"\u006b":2}}`, `{"\u0063hannel":"a","data":1}`,
	`{"channel":"a","data":01}`, `{"channel":"a","data":-}`, `{"channel":"a","data":1.}`, `{"channel":"a","data":.1}`,
	`{"channel":"a","data":1e}`, `{"channel":"a","data":+1}`, `{"channel":"a","data":tru}`, `{"channel":"a","data":nul`,
	`{"channel":"a","data":NaN}`,
	`{"channel":"a","data":[1,]}`, `{"channel":"a","data":[1 2]}`, `{"channel":"a","data":[`,
	`{"channel":"a","data":1} x`,
	`{"channel":"a","topic":1}`, `{"channel":"","data":1}`, `{"channel":"a","ttl":1.5}`,
	`{"channel":"a","data":"\ud83d"}`, `{"channel":"a","data":"\ude00\ud83d"}`, `{"channel":"a","data":"\ud83d\ud83d"}`,
	`{"channel":"a","data":"\ud83d\ude0g"}`, `{"channel":"a","data":"\ud83d\ude`,
	`{"channel":"a","data":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`, `{"channel":"a","data":` +
		manyKeysObject(17) + `}`,
}

func manyKeysObject(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`,"k` + strconv.Itoa(i) + `":0`)
	}
	return "{" + b.String()[1:] + "}"
}

func TestQuickPublication(t *testing.T) {
	for _, body := range ordinary {
		if _, ok := quickPublication([]byte(body)); !ok {
			t.Errorf("%s is declined", body)
		}
	}
	for _, body := range unusual {
		if p, ok := quickPublication([]byte(body)); ok {
			t.Errorf("%s is accepted as %+v", body, p)
		}
	}
}

// FuzzQuickPublication holds the quick reader against the complete one: what
// it accepts is accepted, and as the same.
func FuzzQuickPublication(f *testing.F) {
	for _, body := range slices.Concat(ordinary, unusual) {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, ok := quickPublication(body)
		if !ok {
			return
		}
		want, err := decodePublication(body)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\n got %+v\nwant %+v, %v", body, got, want, err)
		}
		if err := CheckData(got.Data, len(got.Data)); got.Data != nil && err != nil {
			t.Fatalf("%q: %v", body, err)
		}
	})
}

// A result is written as encoding/json would.
func TestResultAppendTo(t *testing.T) {
	for _, r := range []Result{
		{}, {Status: StatusStored, ID: "mib3k2x9-1024", Channel: "orders.eu"},
		{Line: 12, Status: StatusSent, Channel: "a<&>b"},
		{Line: 1, Status: StatusInvalid, Problem: ProblemTooLarge.With(`"long"`)},
		{Status: StatusFailed, Channel: "a\"b\\\n\u2028ä\x7f"}, {Status: StatusFailed},
	} {
		want, err := Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(r.AppendTo([]byte("x"))); got != "x"+string(want) {
			t.Errorf("got %s, want x%s", got, want)
		}
	}
}
