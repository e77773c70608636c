package conn_test

import (
	"slices"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/gateway/internal/wstest"
)

// A text message that is not UTF-8 ends the connection with 1007 and reaches
// nobody (RFC 6455 section 8.1), however it is fragmented; a rune that is cut
// by fragments is well.
func TestUTF8(t *testing.T) {
	whole := func(s string) []byte { return masked(opText, []byte(s)) }
	cut := func(s string) []byte { // a fragment for each byte
		b := masked(byte(ws.Text), nil)
		for i := range len(s) {
			b = append(b, masked(byte(ws.Continuation), []byte(s[i:i+1]))...)
		}
		return append(b, masked(wstest.Fin, nil)...)
	}
	cases := []struct {
		name string
		text string
		good bool
	}{
		{"one to four bytes a rune", "aß€\U0001F600\U0010FFFF", true},
		{"NUL and BOM", "\x00\uFEFFx", true},
		{"non-characters", "\uFFFE\uFFFF", true},
		{"a lone continuation byte", "ab\x80", false},
		{"a rune that is not whole", "ab\xe2\x82", false},
		{"an overlong slash", "\xc0\xaf", false},
		{"an overlong NUL", "\xf0\x80\x80\x80", false},
		{"a surrogate", "\xed\xa0\x80", false},
		{"beyond the last rune", "\xf4\x90\x80\x80", false},
		{"0xff", "\xff", false},
		{"Latin-1", "caf\xe9 au lait", false},
	}
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(b)) }
		for _, c := range cases {
			for _, wire := range [][]byte{whole(c.text), cut(c.text)} {
				p, _ := s.connect()
				p.write(slices.Concat(whole("before"), wire))
				p.want(opText, "before")
				if c.good {
					p.want(opText, c.text)
					p.goodbye(1000)
				}
				want := proto.CloseInvalidPayload
				if c.good {
					want = proto.CloseNormal
				}
				if texts, code, _ := p.untilClose(); texts != 0 || code != uint16(want) {
					t.Errorf("%s: got %d messages and code %d, want code %d", c.name, texts, code, want)
				}
				if !c.good {
					p.goodbye(uint16(want))
				}
				p.end()
				if code := s.ended(); code != want {
					t.Errorf("%s: it ended with %v, want %v", c.name, code, want)
				}
			}
		}
	})
}
