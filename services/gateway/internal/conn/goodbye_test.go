package conn_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// The client says goodbye: it gets its code back, and an orderly end.
func TestClientCloses(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		for _, code := range []uint16{1000, 1001, 4321} {
			p, c := s.connect()
			c.Push(textFrame([]byte("last words")))
			p.goodbye(code)
			p.want(opText, "last words")
			if _, got, _ := p.untilClose(); got != code {
				t.Errorf("got code %d back, want %d", got, code)
			}
			p.end()
			if got := s.ended(); got != proto.CloseNormal {
				t.Errorf("it ended with %v, want %v", got, proto.CloseNormal)
			}
			c.Push(textFrame([]byte("too late"))) // goes nowhere, harms nothing
			c.Close(proto.CloseInternal)
			if err := c.SendWait(context.Background(), nil); err != conn.ErrClosed {
				t.Errorf("SendWait after the end: got %v", err)
			}
			if c.Reason() != proto.CloseNormal || s.set.Len() != 0 {
				t.Errorf("after the end: reason %v, %d connections", c.Reason(), s.set.Len())
			}
		}
	})
}

// A goodbye without a code is answered by one without.
func TestClientClosesWithoutCode(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		p, _ := s.connect()
		p.send(opClose, "")
		p.want(opClose, "")
		p.end()
		if got := s.ended(); got != proto.CloseNormal {
			t.Errorf("it ended with %v", got)
		}
	})
}

// We say goodbye: what is queued comes first, then code and name, then
// nothing; the client's answer ends it.
func TestWeClose(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		for _, code := range proto.CloseCodes() {
			p, c := s.connect()
			c.Push(textFrame([]byte("last words")))
			c.Close(code)
			c.Close(proto.CloseInternal) // the first counts
			c.Push(textFrame([]byte("too late")))
			most := 0
			if code != proto.CloseSlowConsumer { // of whose queue a blocking socket may have begun with nothing
				p.want(opText, "last words")
			} else {
				most = 1
			}
			p.send(opText, "not heard any more")
			p.send(opPing, "") // needs no answer now, and must not cut the goodbye off
			if texts, got, reason := p.untilClose(); texts > most || got != uint16(code) || reason != code.String() {
				t.Errorf("got %d more frames, goodbye %d %q; want %d %q", texts, got, reason, code, code)
			}
			p.goodbye(uint16(code))
			p.end()
			if got := s.ended(); got != code {
				t.Errorf("it ended with %v, want %v", got, code)
			}
		}
	})
}

// A client that never answers the goodbye is not waited for.
func TestGoodbyeUnanswered(t *testing.T) {
	const wait = 200 * time.Millisecond
	forms(t, conn.Config{CloseWait: wait}, func(t *testing.T, s *server) {
		_, c := s.connect()
		begin := time.Now()
		c.Close(proto.CloseGoingAway)
		if got := s.ended(); got != proto.CloseGoingAway {
			t.Errorf("got %v", got)
		}
		if took := time.Since(begin); took < wait || took > 30*time.Second {
			t.Errorf("took %s, want about %s", took, wait)
		}
	})
}

// A connection that breaks is over, without a goodbye.
func TestConnectionLost(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		p, _ := s.connect()
		p.send(opText, "hello")
		_ = p.nc.Close()
		if got := s.ended(); got != proto.CloseNormal {
			t.Errorf("got %v, want %v", got, proto.CloseNormal)
		}
	})
}

// Whoever breaks the protocol is told how, though it goes on sending, and
// though others go on sending to it.
func TestProtocolBroken(t *testing.T) {
	length := func(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{opText, 0xff}, n) }
	flood := bytes.Repeat(masked(opText, []byte(strings.Repeat("x", 1000))), 300)
	cases := []struct {
		name string
		sent []byte
		want proto.CloseCode
	}{
		{"unmasked frame", []byte("\x81\x02hi"), proto.CloseProtocolError},
		{"reserved bit", masked(opText|0x40, []byte("hi")), proto.CloseProtocolError},
		{"unknown opcode", masked(0x83, nil), proto.CloseProtocolError},
		{"fragmented ping", masked(byte(ws.Ping), nil), proto.CloseProtocolError},
		{"long ping", masked(opPing, make([]byte, 126)), proto.CloseProtocolError},
		{"continuation of nothing", masked(0x80, nil), proto.CloseProtocolError},
		{"text within a message", append(masked(byte(ws.Text), nil), masked(opText, nil)...), proto.CloseProtocolError},
		{"goodbye with a forbidden code", masked(opClose, []byte{0x03, 0xed}), proto.CloseProtocolError},
		{"goodbye that is not UTF-8", masked(opClose, []byte("\x03\xe8\xff")), proto.CloseProtocolError},
		{"binary frame", masked(opBinary, []byte("hi")), proto.CloseUnsupported},
		{"long binary frame", masked(opBinary, make([]byte, proto.MaxFrameBytes)), proto.CloseUnsupported},
		{"a byte too long", masked(opText, make([]byte, proto.MaxFrameBytes+1)), proto.CloseTooBig},
		{"a fragment too much", append(masked(byte(ws.Text), make([]byte, proto.MaxFrameBytes)),
			masked(0x80, make([]byte, 1))...), proto.CloseTooBig},
		{"two gigabytes announced", append(length(1<<31), 0, 0, 0, 0), proto.CloseTooBig},
		{"a negative length", append(length(1<<63|1), 0, 0, 0, 0), proto.CloseTooBig},
		{"what our own handler refuses", masked(opText, []byte("refuse me")), proto.CloseInvalidPayload},
	}
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		s.frame = func(c *conn.Conn, b []byte) {
			if string(b) == "refuse me" {
				c.Close(proto.CloseInvalidPayload)
			}
		}
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				p, conn := s.connect()
				p.t = t
				stop := make(chan struct{})
				stopped := make(chan struct{})
				go func() { // messages for this client keep coming; ends with stop, waited for by stopped
					defer close(stopped)
					for {
						select {
						case <-stop:
							return
						case <-time.After(time.Millisecond):
							conn.Push(textFrame([]byte("live")))
						}
					}
				}()
				defer func() { close(stop); <-stopped }()
				p.write(append(c.sent, flood...))
				if _, code, reason := p.untilClose(); code != uint16(c.want) || reason != c.want.String() {
					t.Errorf("got code %d %q, want %d %q", code, reason, c.want, c.want)
				}
				p.goodbye(uint16(c.want))
				_ = p.nc.(interface{ CloseWrite() error }).CloseWrite()
				p.end()
				if got := s.ended(); got != c.want {
					t.Errorf("it ended with %v, want %v", got, c.want)
				}
			})
		}
	})
}

// The longest frame that is allowed is read, also in pieces.
func TestLongestFrame(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(b)) }
		p, _ := s.connect()
		longest := strings.Repeat("x", proto.MaxFrameBytes)
		p.send(opText, longest)
		p.want(opText, longest)
		p.write(masked(byte(ws.Text), []byte(longest[:10000])))
		p.write(masked(0x80, []byte(longest[10000:])))
		p.want(opText, longest)
	})
}

// A client that talks before the handshake is answered has no connection.
func TestTalksTooEarly(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		p := s.dial()
		p.write(append([]byte(handshake), masked(opText, []byte("hi"))...))
		if b, err := p.br.Peek(1); err == nil {
			t.Errorf("got %q", b)
		}
		if n := s.set.Len(); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}
