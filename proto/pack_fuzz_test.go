package proto_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

// FuzzLines: whatever a pack is, reading it ends, and gives parts of it.
func FuzzLines(f *testing.F) {
	var pack proto.Pack
	fill(&pack, somePacked())
	f.Add(pack.Body())
	f.Add([]byte("\n\t\nx\n{\"channel\":\"a\"}\tx a s t\n{\"channel\":\"a\"\tx99999999999999999999 a-"))
	f.Fuzz(func(t *testing.T, body []byte) {
		n := 0
		text := string(body)
		for lines := proto.ReadPack(body); lines.Next(); n++ {
			lines.Accepted()
			lines.Expired(1)
			if line, channel := "", ""; lines.Message() != nil {
				if line, channel = lines.In(text); line != string(lines.Raw()) || channel != string(lines.Channel()) {
					t.Errorf("line %q with channel %q is kept as %q with %q", lines.Raw(), lines.Channel(),
						line, channel)
				}
			}
			if m := lines.Message(); m != nil && !bytes.Contains(lines.Raw(), m) {
				t.Errorf("message %q is no part of line %q", m, lines.Raw())
			}
			if !bytes.Contains(lines.Raw(), lines.Channel()) || bytes.ContainsAny(lines.Channel(), "\"\n") ||
				lines.Place() != n {
				t.Errorf("line %q has the channel %q and place %d", lines.Raw(), lines.Channel(), lines.Place())
			}
			if bytes.ContainsAny(lines.Source(), " \n") || bytes.ContainsAny(lines.Traceparent(), " \n") {
				t.Errorf("line %q has the source %q and trace %q", lines.Raw(), lines.Source(), lines.Traceparent())
			}
		}
		if n > proto.MaxPackMessages {
			t.Errorf("%d messages", n)
		}
	})
}

// FuzzPack: what is put into a pack comes out of it.
func FuzzPack(f *testing.F) {
	f.Add(`{"channel":"orders.eu","data":{"n":1}}`, "203.0.113.7",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", int64(57), int64(0))
	f.Add("{\"channel\":\"a\",\"data\":[\"\\t\",\n\t1]}", "", "", int64(-57), int64(1795370316000))
	f.Fuzz(func(t *testing.T, body, source, trace string, later, expires int64) {
		pub, err := proto.ParsePublication([]byte(body), 1<<20)
		if err != nil || pub.Channel == "" {
			return
		}
		for _, s := range []*string{&source, &trace} {
			if len(*s) > 64 || strings.ContainsFunc(*s, func(r rune) bool { return r <= ' ' || r > '~' }) {
				*s = ""
			}
		}
		m := proto.Message{Channel: pub.Channel, Event: pub.Event, Data: pub.Data, Sender: "shop", Time: "t"}
		private := proto.Private{Source: source, Traceparent: trace,
			Accepted: packTime.Add(time.Duration(later%1e15) * time.Microsecond)}
		if expires = expires % 1e15; expires > 0 {
			private.Expires = time.UnixMilli(expires)
		}
		all := append(somePacked()[:2], packed{m, private}, packed{m, private})
		var pack proto.Pack
		fill(&pack, all)
		checkLines(t, pack.Body(), all)
	})
}
