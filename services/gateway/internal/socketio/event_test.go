package socketio

import (
	"testing"
	"time"
)

func TestMessage(t *testing.T) {
	const orders = `{"id":"e-7","channel":"orders.eu","event":"created","data":{"n":1},"sender":"shop","time":"T"}`
	for _, c := range []struct {
		name, body string
		form       Form
		want       string
	}{
		{"broadcast, as the predecessor sent it",
			`{"id":"e-7","channel":"broadcast","event":"message","data":"hi","sender":"s","time":"T"}`, Plain,
			`2["message",{"data":"hi"}]`},
		{"broadcast is always a message",
			`{"channel":"broadcast","event":"x","data":{"a":[1]},"sender":"s","time":"T"}`,
			Plain, `2["message",{"data":{"a":[1]}}]`},
		{"another channel: its event", orders, Plain, `2["created",{"n":1}]`},
		{"details", orders, Detailed,
			`2["created",{"n":1},{"id":"e-7","channel":"orders.eu","sender":"shop","time":"T"}]`},
		{"the place comes last", orders, Recovering,
			`2["created",{"n":1},{"id":"e-7","channel":"orders.eu","sender":"shop","time":"T"},"e-7"]`},
		{"an ephemeral message has no place", `{"channel":"a","event":"e","data":1,"sender":"s","time":"T"}`,
			Recovering,
			`2["e",1,{"channel":"a","sender":"s","time":"T"}]`},
		{"a name that Socket.IO uses itself", `{"channel":"a","event":"disconnect","data":1,"sender":"s","time":"T"}`,
			Plain,
			`2["message",1]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			packet, attachment := Message([]byte(c.body), c.form)
			if got := string(packet); got != c.want || attachment != nil {
				t.Errorf("got %s and %q, want %s", got, attachment, c.want)
			}
		})
	}
}

// Protocol v5, "Packet encoding", BINARY_EVENT.
func TestMessageBinary(t *testing.T) {
	const data = `"data:application/octet-stream;base64,AQIDBA=="`
	for form, want := range map[Form]string{
		Plain: `51-["message",{"data":{"_placeholder":true,"num":0}}]`,
		Detailed: `51-["message",{"data":{"_placeholder":true,"num":0}},` +
			`{"id":"e-7","channel":"broadcast","sender":"s","time":"T"}]`,
		Recovering: `51-["message",{"data":{"_placeholder":true,"num":0}},` +
			`{"id":"e-7","channel":"broadcast","sender":"s","time":"T"},"e-7"]`,
	} {
		packet, attachment := Message([]byte(`{"id":"e-7","channel":"broadcast","event":"x","data":`+data+
			`,"sender":"s","time":"T"}`), form)
		if string(packet) != want || string(attachment) != "\x01\x02\x03\x04" {
			t.Errorf("got %s and %q, want %s", packet, attachment, want)
		}
	}
	packet, attachment := Message([]byte(`{"channel":"a","event":"e","data":"data:application/octet-stream;base64,",`+
		`"sender":"s","time":"T"}`), Plain)
	if string(packet) != `51-["e",{"_placeholder":true,"num":0}]` || attachment == nil || len(attachment) > 0 {
		t.Errorf("no bytes at all: got %s and %q", packet, attachment)
	}
}

func TestPID(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s, other := NewSigner(make([]byte, 32)), NewSigner([]byte("another key of thirty-two bytes."))
	session := Session{Channels: []string{"a", "b"}, Subject: "u"}
	pid := s.Sign(session, now)
	if pid == s.Sign(session, now) {
		t.Error("two pids are the same: a client would take an unrecovered session for its own")
	}
	for _, c := range []struct {
		name    string
		signer  *Signer
		pid     string
		session Session
		now     time.Time
		want    bool
	}{
		{"as signed", s, pid, session, now, true},
		{"channels in another order", s, pid, Session{Channels: []string{"b", "a"}, Subject: "u"}, now, true},
		{"another channel", s, pid, Session{Channels: []string{"a", "c"}, Subject: "u"}, now, false},
		{"one channel more", s, pid, Session{Channels: []string{"a", "b", "c"}, Subject: "u"}, now, false},
		{"channels that read the same", s, pid, Session{Channels: []string{"ab"}, Subject: "u"}, now, false},
		{"another subject", s, pid, Session{Channels: session.Channels, Subject: "v"}, now, false},
		{"another key", other, pid, session, now, false},
		{"too late", s, pid, session, now.Add(PIDAge), false},
		{"changed", s, "_" + pid[1:], session, now, false},
		{"shorter", s, pid[:len(pid)-2], session, now, false},
		{"invented", s, "pid", session, now, false},
		{"empty", s, "", session, now, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.signer.Valid(c.pid, c.session, c.now); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
