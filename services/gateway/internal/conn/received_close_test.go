package conn_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
)

// What a client says right before its goodbye is heard and answered, in the
// same segment or not: the goodbye comes last.
func TestSaidBeforeGoodbye(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		// the client may be gone
		s.frame = func(c *conn.Conn, b []byte) { _ = c.SendWait(context.Background(), textFrame(b)) }
		for i := range 40 {
			p, _ := s.connect()
			said := [][]byte{masked(opText, []byte("one")), masked(opText, []byte("two")), masked(opPing, []byte("?")),
				masked(opClose, []byte("\x0f\xa1"))}
			if i%2 == 0 {
				p.write(slices.Concat(said...))
			} else {
				for _, b := range said {
					p.write(b)
				}
			}
			if i%4 > 1 { // it hears, and says no more
				_ = p.nc.(interface{ CloseWrite() error }).CloseWrite()
			}
			var texts []string
			pongs := 0
			for {
				op, payload, err := p.read()
				if err != nil {
					t.Fatalf("after %q and %d pongs: %v", texts, pongs, err)
				}
				if op == opClose {
					if string(payload) != "\x0f\xa1" {
						t.Fatalf("got goodbye %q", payload)
					}
					break
				}
				if op == opPong {
					pongs++
				} else {
					texts = append(texts, string(payload))
				}
			}
			if pongs != 1 || !slices.Equal(texts, []string{"one", "two"}) {
				t.Fatalf("got %q and %d pongs before the goodbye", texts, pongs)
			}
			p.end()
			if code := s.ended(); code != proto.CloseNormal {
				t.Fatalf("it ended with %v", code)
			}
		}
	})
}

// A ping is answered although what follows in the same segment ends the
// connection.
func TestPingBeforeTheEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		last []byte
		code uint16
	}{
		{"goodbye", masked(opClose, []byte("\x03\xe9")), 1001},
		{"a reserved bit", masked(opText|0x10, nil), 1002},
		{"binary", masked(opBinary, nil), 1003},
		{"too big", masked(opText, make([]byte, proto.MaxFrameBytes+1)), 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			forms(t, conn.Config{}, func(t *testing.T, s *server) {
				p, _ := s.connect()
				p.write(slices.Concat(masked(opPing, []byte("a")), masked(opPing, []byte("b")), c.last))
				p.want(opPong, "a")
				p.want(opPong, "b")
				if _, code, _ := p.untilClose(); code != c.code {
					t.Errorf("got code %d, want %d", code, c.code)
				}
				p.goodbye(c.code)
				p.end()
			})
		})
	}
}

// A client that says goodbye while it is told much is told no more than fits.
func TestGoodbyeEndsReplay(t *testing.T) {
	s := newServer(t, conn.Config{MaxQueueBytes: 64 << 10}, "tcp", false)
	gaveUp := make(chan error, 1)
	s.greet = func(c *conn.Conn) {
		for {
			if err := c.SendWait(context.Background(), textFrame(make([]byte, 10000))); err != nil {
				gaveUp <- err
				return
			}
		}
	}
	p, c := s.connect()
	eventually(t, "the replay waits", func() bool { return c.Queued() > 32<<10-11000 })
	p.goodbye(1000)
	if err := <-gaveUp; !errors.Is(err, conn.ErrClosed) {
		t.Errorf("the replay: got %v, want %v", err, conn.ErrClosed)
	}
	if texts, code, _ := p.untilClose(); texts == 0 || code != 1000 {
		t.Errorf("got %d messages and code %d", texts, code)
	}
	p.end()
	if code := s.ended(); code != proto.CloseNormal {
		t.Errorf("it ended with %v", code)
	}
}
