package conn_test

import (
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
)

// Whatever a client sends after the handshake, it reads whole frames and, at
// the end, at most one goodbye; and the connection ends for a known reason.
func FuzzClient(f *testing.F) {
	f.Add([]byte(masked(opText, []byte("hello"))))
	f.Add(slices.Concat(masked(byte(ws.Text), []byte("a")), masked(opPing, nil), masked(0x80, []byte("b"))))
	f.Add(masked(opClose, []byte{0x03, 0xe8}))
	f.Add(masked(opClose, []byte{0x03}))
	f.Add(masked(opBinary, []byte{1}))
	f.Add([]byte("\x81\x02hi"))
	f.Add(slices.Concat(masked(opText, []byte("\xe2\x82")), masked(opText, nil), masked(opClose, nil)))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{opText, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
	s := newServer(f, conn.Config{}, "unix", false) // TCP would run out of ports
	s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(b)) }
	f.Fuzz(func(t *testing.T, data []byte) {
		s.t = t
		p, _ := s.connect()
		s.survives(t, p, data)
	})
}

// survives has a client send these bytes and then its end, while it reads: whole
// frames, at most one goodbye, and an end for a known reason.
func (s *server) survives(t *testing.T, p *peer, data []byte) {
	t.Helper()
	// The client sends all of it, then its end; it reads meanwhile.
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = p.nc.Write(data) // the server may have hung up
		_ = p.nc.(interface{ CloseWrite() error }).CloseWrite()
	}()
	over := false
	for {
		op, _, err := p.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || over {
			t.Fatalf("got frame %#02x, %v; goodbye said: %t", op, err, over)
		}
		over = op == opClose
	}
	<-written
	switch code := s.ended(); code {
	case proto.CloseNormal, proto.CloseProtocolError, proto.CloseUnsupported, proto.CloseInvalidPayload,
		proto.CloseTooBig:
	default:
		t.Fatalf("it ended with %v", code)
	}
}
