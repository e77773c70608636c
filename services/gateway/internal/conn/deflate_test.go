package conn_test

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/gateway/internal/wstest"
)

// Compressed, in fragments, with pings between them, mixed with plain ones.
func TestDeflatedMessages(t *testing.T) {
	forms(t, conn.Config{Deflate: true}, func(t *testing.T, s *server) {
		s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(append([]byte("echo "), b...))) }
		p, c, _ := s.connectOffering("permessage-deflate")
		p.send(opDeflated, "\xf2\x48\xcd\xc9\xc9\x07\x00")
		p.want(opText, "echo Hello")
		p.send(opText, "plain")
		p.want(opText, "echo plain")
		p.send(opDeflated, "\x00")
		p.want(opText, "echo ")
		// Two fragments as in RFC 7692 section 7.2.3.1, and a ping.
		p.write(masked(wstest.RSV1|byte(ws.Text), []byte("\xf2\x48\xcd")))
		p.send(opPing, "in between")
		p.write(masked(wstest.Fin, []byte("\xc9\xc9\x07\x00")))
		p.want(opPong, "in between")
		p.want(opText, "echo Hello")
		// A plain one in fragments right after, byte by byte.
		for _, b := range slices.Concat(masked(byte(ws.Text), []byte("a")), masked(wstest.Fin, []byte("b"))) {
			p.write([]byte{b})
		}
		p.want(opText, "echo ab")
		long := string(document(proto.MaxFrameBytes/2 - 500))
		in := deflate(long)
		for i := range len(in) {
			if op := byte(ws.Continuation); i == len(in)-1 {
				p.write(masked(op|wstest.Fin, []byte(in[i:])))
			} else {
				if i == 0 {
					op = wstest.RSV1 | byte(ws.Text)
				}
				p.write(masked(op, []byte(in[i:i+1])))
			}
		}
		p.want(opText, "echo "+long)
		// To the client: what is compressed stands between what is not.
		c.Push(textFrame([]byte("one")))
		c.Push(deflatedFrame([]byte(long)))
		c.Push(textFrame([]byte("two")))
		p.want(opText, "one")
		p.want(opDeflated, string(deflatedFrame([]byte(long))[4:]))
		p.want(opText, "two")
		idle(t, c)
	})
}

// What a client does wrong ends with the code that RFC 7692 and 6455 have for it.
func TestDeflateBroken(t *testing.T) {
	hello := []byte("\xf2\x48\xcd\xc9\xc9\x07\x00")
	for _, c := range []struct {
		name  string
		offer string
		in    []byte
		code  proto.CloseCode
	}{
		{"not negotiated", "permessage-deflate; server_max_window_bits=9", masked(opDeflated, hello),
			proto.CloseProtocolError},
		{"a compressed ping", "permessage-deflate", masked(opPing|wstest.RSV1, hello), proto.CloseProtocolError},
		{"a compressed goodbye", "permessage-deflate", masked(opClose|wstest.RSV1, nil), proto.CloseProtocolError},
		{"a compressed continuation", "permessage-deflate", slices.Concat(masked(wstest.RSV1|byte(ws.Text), hello[:3]),
			masked(wstest.Fin|wstest.RSV1, hello[3:])), proto.CloseProtocolError},
		{"continuation of nothing", "permessage-deflate", masked(wstest.Fin|wstest.RSV1, hello),
			proto.CloseProtocolError},
		{"text within a message", "permessage-deflate", slices.Concat(masked(wstest.RSV1|byte(ws.Text), hello[:3]),
			masked(opDeflated, hello[3:])), proto.CloseProtocolError},
		{"RSV2", "permessage-deflate", masked(opDeflated|0x20, hello), proto.CloseProtocolError},
		{"RSV3 alone", "permessage-deflate", masked(opText|0x10, hello), proto.CloseProtocolError},
		{"an unknown opcode", "permessage-deflate", masked(wstest.Fin|wstest.RSV1|3, hello), proto.CloseProtocolError},
		{"binary", "permessage-deflate", masked(opDeflatedBinary, hello), proto.CloseUnsupported},
		{"corrupt", "permessage-deflate", masked(opDeflated, []byte(`{"type":"ping"}`)), proto.CloseInvalidPayload},
		{"cut off", "permessage-deflate", masked(opDeflated, hello[:4]), proto.CloseInvalidPayload},
		{"with an earlier message's window", "permessage-deflate", slices.Concat(masked(opDeflated, hello),
			masked(opDeflated, []byte("\xf2\x00\x11\x00\x00"))), proto.CloseInvalidPayload},
		{"a bomb", "permessage-deflate", masked(opDeflated, []byte(deflate(strings.Repeat("x", 4<<20)))),
			proto.CloseTooBig},
		{"longer than a message may be", "permessage-deflate", masked(opDeflated, make([]byte, proto.MaxFrameBytes+1)),
			proto.CloseTooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			forms(t, conn.Config{Deflate: true}, func(t *testing.T, s *server) {
				p, _, _ := s.connectOffering(c.offer)
				p.write(c.in)
				if _, code, _ := p.untilClose(); code != uint16(c.code) {
					t.Errorf("got %d, want %v", code, c.code)
				}
				_ = p.nc.Close() // what is said after a goodbye is not heard
				if code := s.ended(); code != c.code {
					t.Errorf("it ended with %v, want %v", code, c.code)
				}
			})
		})
	}
}

// Many messages that inflate to a thousand times their size, for a client that
// is busy: what waits is what was sent, and reading pauses as for plain ones.
func TestManyBombs(t *testing.T) {
	s := newServer(t, conn.Config{Deflate: true}, "tcp", false)
	held, over := make(chan struct{}), make(chan struct{})
	s.frame = func(c *conn.Conn, _ []byte) { <-held; c.Close(proto.CloseTooManyFrames) } // as a session does
	p, _, _ := s.connectOffering("permessage-deflate")
	burst := bytes.Repeat(masked(opDeflated, []byte(deflate(strings.Repeat("x", proto.MaxFrameBytes)))), 500)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var said atomic.Int64
	go func() { // ends with the connection
		defer close(over)
		for {
			if _, err := p.nc.Write(burst); err != nil {
				return
			}
			said.Add(1)
		}
	}()
	stands(t, &said)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int(after.HeapAlloc) - int(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("messages that inflate to %d bytes each take %d", proto.MaxFrameBytes, grown)
	}
	close(held)
	_ = p.nc.Close()
	<-over
	s.ended()
}

// gorilla's client, which has its own inflater and its own idea of the
// handshake, gets and sends all sizes.
func TestDeflateGorilla(t *testing.T) {
	forms(t, conn.Config{Deflate: true}, func(t *testing.T, s *server) {
		s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(b)) }
		d := websocket.Dialer{EnableCompression: true,
			NetDial: func(string, string) (net.Conn, error) { return s.dial().nc, nil }}
		ws, resp, err := d.Dial("ws://test/", nil)
		if err != nil || resp.Header.Get("Sec-WebSocket-Extensions") != accepted {
			t.Fatalf("got %v, %v", resp, err)
		}
		c := <-s.conns
		r := random(t)
		for range 50 {
			doc := document(200 + r.IntN(proto.MaxFrameBytes/2))
			if err := ws.WriteMessage(websocket.TextMessage, doc); err != nil {
				t.Fatal(err)
			}
			if _, got, err := ws.ReadMessage(); err != nil || !bytes.Equal(got, doc) {
				t.Fatalf("echo of %d bytes: got %d, %v", len(doc), len(got), err)
			}
			c.Push(deflatedFrame(doc))
			if _, got, err := ws.ReadMessage(); err != nil || !bytes.Equal(got, doc) {
				t.Fatalf("%d bytes compressed: got %d, %v", len(doc), len(got), err)
			}
		}
		c.Close(proto.CloseGoingAway)
		var closed *websocket.CloseError
		if _, _, err := ws.ReadMessage(); !errors.As(err, &closed) || closed.Code != int(proto.CloseGoingAway) {
			t.Errorf("got %v", err)
		}
	})
}
