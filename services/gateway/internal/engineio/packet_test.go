package engineio

import (
	"errors"
	"reflect"
	"testing"
)

// What the protocol documents give as examples stands here word for word.
func TestSplit(t *testing.T) {
	text := func(s string) content { return content{[]byte(s), false} }
	bin := func(b ...byte) content { return content{b, true} }
	for _, c := range []struct {
		rule     string
		v        Version
		asBinary bool
		body     string
		want     []content // nil: it is refused
	}{
		{"v4: packets are separated by the record separator", V4, false, "4hello\x1e2\x1e4world",
			[]content{text("4hello"), text("2"), text("4world")}},
		{"v4: binary is base64 behind b", V4, false, "4hello\x1ebAQIDBA==", []content{text("4hello"), bin(1, 2, 3, 4)}},
		{"v4: a type is a digit up to 6", V4, false, "abc", nil},
		{"v4: a type is a digit up to 6", V4, false, "7", nil},
		{"v4: no packet is empty", V4, false, "", nil},
		{"v4: no packet is empty", V4, false, "4a\x1e", nil},
		{"v4: what follows b is base64", V4, false, "b!!", nil},
		{"v4: text is UTF-8", V4, false, "4\xff", nil},
		{"v4: no payload of bytes", V4, true, "4hello", nil},
		{"v3: length in characters, colon, packet", V3, false, "6:4hello6:4world",
			[]content{text("4hello"), text("4world")}},
		{"v3: characters, not bytes", V3, false, "6:4hello2:4€", []content{text("4hello"), text("4€")}},
		{"v3: characters as JavaScript counts them", V3, false, "3:4😀1:2", []content{text("4😀"), text("2")}},
		{"v3: base64 behind b and the type", V3, false, "2:4€10:b4AQIDBA==", []content{text("4€"), bin(4, 1, 2, 3, 4)}},
		{"v3: payload of bytes", V3, true, "\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04",
			[]content{text("4€"), bin(4, 1, 2, 3, 4)}},
		{"v3: a length is there", V3, false, "abc", nil},
		{"v3: a length is a number", V3, false, "x:4a", nil},
		{"v3: a length is not negative", V3, false, "-1:4a", nil},
		{"v3: a packet is as long as it says", V3, false, "9:4a", nil},
		{"v3: half a character is none", V3, false, "2:4😀", nil},
		{"v3: a packet of bytes is as long as it says", V3, true, "\x00\x09\xff4", nil},
		{"v3: a length of bytes ends", V3, true, "\x00\x01", nil},
		{"v3: no payload is empty", V3, false, "", nil},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var got []content
			err := c.v.Split([]byte(c.body), c.asBinary, func(b []byte, binary bool) error {
				got = append(got, content{b, binary})
				return nil
			})
			switch {
			case c.want == nil && !errors.Is(err, ErrPacket):
				t.Errorf("%q: got %v and error %v, want ErrPacket", c.body, got, err)
			case c.want != nil && (err != nil || !reflect.DeepEqual(got, c.want)):
				t.Errorf("%q: got %v and error %v, want %v", c.body, got, err, c.want)
			}
		})
	}
}

func TestJoin(t *testing.T) {
	hello, euro, smile := content{[]byte("4hello"), false}, content{[]byte("4€"), false}, content{[]byte("4😀"), false}
	for _, c := range []struct {
		rule    string
		v       Version
		b64     bool
		packets []content
		want    string
	}{
		{"v4: record separator", V4, false, []content{hello, euro}, "4hello\x1e4€"},
		{"v4: base64", V4, false, []content{hello, {[]byte{1, 2, 3, 4}, true}}, "4hello\x1ebAQIDBA=="},
		{"v3: characters", V3, false, []content{hello, euro, smile}, "6:4hello2:4€3:4😀"},
		{"v3: bytes where something is binary", V3, false, []content{euro, {[]byte{4, 1, 2, 3, 4}, true}},
			"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04"},
		{"v3: base64 where the client asked for it", V3, true, []content{euro, {[]byte{4, 1, 2, 3, 4}, true}},
			"2:4€10:b4AQIDBA=="},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got, _ := c.v.join(c.packets, c.b64); string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// FuzzSplit: what is taken apart comes out of join as it went in.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{"4hello\x1e2\x1ebAQIDBA==", "6:4hello2:4€", "10:b4AQIDBA==",
		"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04"} {
		for _, v3 := range []bool{true, false} {
			f.Add([]byte(s), v3, false)
			f.Add([]byte(s), v3, true)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, v3, asBinary bool) {
		v := V4
		if v3 {
			v = V3
		}
		split := func(body []byte, asBinary bool) (packets []content, err error) {
			err = v.Split(body, asBinary, func(b []byte, binary bool) error {
				packets = append(packets, content{b, binary})
				return nil
			})
			return packets, err
		}
		packets, err := split(body, asBinary)
		if err != nil || len(packets) == 0 {
			return
		}
		for _, b64 := range []bool{false, true} {
			payload, binary := v.join(packets, b64)
			again, err := split(payload, binary)
			if err != nil || !reflect.DeepEqual(again, packets) {
				t.Errorf("%v became %q, and that %v (%v)", packets, payload, again, err)
			}
		}
	})
}
