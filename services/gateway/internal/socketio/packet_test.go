package socketio

import (
	"errors"
	"reflect"
	"testing"
)

// The examples of protocol v5, section "Packet encoding", word for word, and what a receiver must refuse.
func TestParse(t *testing.T) {
	for _, c := range []struct {
		rule, text string
		want       Packet // no Type: it is refused
	}{
		{"CONNECT to the main namespace", `0`, Packet{Connect, 0, "/", NoID, []byte{}}},
		{"CONNECT to another one", `0/admin,{"token":"123"}`,
			Packet{Connect, 0, "/admin", NoID, []byte(`{"token":"123"}`)}},
		{"CONNECT, the comma may be missing", `0/custom`, Packet{Connect, 0, "/custom", NoID, nil}},
		{"CONNECT with a query (revision 4)", `0/admin?token=1,`, Packet{Connect, 0, "/admin?token=1", NoID, []byte{}}},
		{"EVENT", `2["foo"]`, Packet{Event, 0, "/", NoID, []byte(`["foo"]`)}},
		{"EVENT, another namespace", `2/admin,["bar"]`, Packet{Event, 0, "/admin", NoID, []byte(`["bar"]`)}},
		{"EVENT with an id", `212["foo"]`, Packet{Event, 0, "/", "12", []byte(`["foo"]`)}},
		{"EVENT whose name is a number", `2[7]`, Packet{Event, 0, "/", NoID, []byte(`[7]`)}},
		{"EVENT whose name is empty", `2[""]`, Packet{Event, 0, "/", NoID, []byte(`[""]`)}},
		{"EVENT whose id has zeroes before it", `2007["foo"]`, Packet{Event, 0, "/", "7", []byte(`["foo"]`)}},
		{"EVENT whose id is longer than an integer", `299999999999999999999["foo"]`,
			Packet{Event, 0, "/", "99999999999999999999", []byte(`["foo"]`)}},
		{"EVENT whose id is nothing but zeroes", `2000["foo"]`, Packet{Event, 0, "/", "0", []byte(`["foo"]`)}},
		{"ACK", `3/admin,13["bar"]`, Packet{Ack, 0, "/admin", "13", []byte(`["bar"]`)}},
		{"ACK without arguments", `30[]`, Packet{Ack, 0, "/", "0", []byte(`[]`)}},
		{"DISCONNECT", `1/admin,`, Packet{Disconnect, 0, "/admin", NoID, []byte{}}},
		{"BINARY_EVENT", `52-/admin,["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`,
			Packet{BinaryEvent, 2, "/admin", NoID,
				[]byte(`["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)}},
		{"BINARY_ACK", `61-15["bar",{"_placeholder":true,"num":0}]`,
			Packet{BinaryAck, 1, "/", "15", []byte(`["bar",{"_placeholder":true,"num":0}]`)}},

		{"the type is known", `abc`, Packet{}},
		{"the type is known", `7`, Packet{}},
		{"the type is there", ``, Packet{}},
		{"an event's payload is an array", `2{}`, Packet{}},
		{"an event's payload is there", `2`, Packet{}},
		{"an event's payload is not empty", `2[]`, Packet{}},
		{"an event has a name", `2[{"a":1}]`, Packet{}},
		{"an event's name is not null", `2[null]`, Packet{}},
		{"an event's name is neither true nor false", `2[true]`, Packet{}},
		{"an event's name is not reserved", `2["disconnecting"]`, Packet{}},
		{"an id is a number", `2abc["foo"]`, Packet{}},
		{"the payload is JSON", `2["foo"`, Packet{}},
		{"CONNECT's payload is an object", `0[1]`, Packet{}},
		{"DISCONNECT has no payload", `1{}`, Packet{}},
		{"ACK's payload is an array", `31{}`, Packet{}},
		{"the attachments are counted", `5["a"]`, Packet{}},
		{"the attachments are bounded", `51001-["a"]`, Packet{}},
		{"CONNECT_ERROR comes from servers", `4{"message":"no"}`, Packet{}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			got, err := Parse([]byte(c.text))
			if c.want.Type == 0 {
				if !errors.Is(err, ErrPacket) {
					t.Errorf("%s: got %+v and error %v, want ErrPacket", c.text, got, err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: got %+v and error %v, want %+v", c.text, got, err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`0/admin,{"token":"123"}`, `52-/admin,12["baz",{"_placeholder":true,"num":0}]`,
		`3/a,13["bar"]`, `2[7]`, `41`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse([]byte(s))
		if err != nil {
			return
		}
		again, err := Parse(p.Append(nil))
		if err != nil || again.Type != p.Type || again.Namespace != p.Namespace || again.ID != p.ID ||
			string(again.Data) != string(p.Data) {
			t.Errorf("%q: %+v became %+v (%v)", s, p, again, err)
		}
		if p.Type == Event {
			if _, _, err := p.Event(); err != nil {
				t.Errorf("%q was accepted, and has no event: %v", s, err)
			}
		}
	})
}
