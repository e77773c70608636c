package conn_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/gateway/internal/wstest"
)

// longForm is a client's frame whose length takes eight bytes, small as it is.
func longForm(op byte, payload string) []byte {
	b := masked(op, []byte(payload))
	return slices.Concat([]byte{op, 0xff}, binary.BigEndian.AppendUint64(nil, uint64(len(payload))), b[2:])
}

// script is what a client may say, and what it must hear: the echoes of its
// texts and the answers to its pings, each in order.
func script() (said []byte, texts, pongs []string) {
	medium := strings.Repeat("m", 130)
	said = slices.Concat(
		masked(opText, []byte("hello")),
		masked(byte(ws.Text), []byte("a\xe2")), masked(opPing, []byte("p1")),
		masked(byte(ws.Continuation), []byte("\x82")), masked(opPing, nil),
		masked(opPong, []byte("x")), masked(wstest.Fin, []byte("\xac")),
		masked(opText, []byte(medium)), longForm(opText, "long"), masked(opText, nil),
		masked(opPing, []byte(medium[:125])))
	return said, []string{"hello", "a€", medium, "long", ""}, []string{"p1", "", medium[:125]}
}

// hears reads until so many frames have come, or a close frame.
func (p *peer) hears(frames int) (texts, pongs []string, goodbye []byte) {
	p.t.Helper()
	for len(texts)+len(pongs) < frames {
		op, payload, err := p.read()
		switch {
		case err != nil:
			p.t.Fatalf("after %q, %q: %v", texts, pongs, err)
		case op == opClose:
			return texts, pongs, payload
		case op == opPong:
			pongs = append(pongs, string(payload))
		default:
			texts = append(texts, string(payload))
		}
	}
	return texts, pongs, nil
}

// However the network cuts what a client says, it hears the same: in two
// pieces, cut at every byte, and byte by byte.
func TestInPieces(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(b)) }
		said, texts, pongs := script()
		p, _ := s.connect()
		piece := func(b []byte) {
			p.write(b)
			time.Sleep(100 * time.Microsecond) // lets it arrive alone, mostly; the outcome is the same
		}
		check := func(how string) {
			t.Helper()
			if gotTexts, gotPongs, _ := p.hears(len(texts) + len(pongs)); !slices.Equal(gotTexts, texts) ||
				!slices.Equal(gotPongs, pongs) {
				t.Fatalf("%s: heard %q and pongs %q; want %q and %q", how, gotTexts, gotPongs, texts, pongs)
			}
		}
		for i := range said {
			piece(said[:i])
			piece(said[i:])
			check(fmt.Sprint("cut at ", i))
		}
		for i := range said {
			p.write(said[i : i+1])
		}
		check("byte by byte")

		last := slices.Concat(masked(opText, []byte("last")), masked(opPing, []byte("p")),
			masked(opClose, []byte("\x03\xe9bye")))
		for i := range last {
			p, _ = s.connect()
			piece(last[:i])
			p.write(last[i:])
			texts, pongs, goodbye := p.hears(10)
			if !slices.Equal(texts, []string{"last"}) || !slices.Equal(pongs, []string{"p"}) ||
				string(goodbye) != "\x03\xe9" {
				t.Fatalf("goodbye cut at %d: heard %q, pongs %q, goodbye %q", i, texts, pongs, goodbye)
			}
			p.end()
			s.ended()
		}
	})
}

// chopper writes what is written to it in two pieces, cut at a byte.
type chopper struct {
	net.Conn
	cut int
}

func (c *chopper) Write(b []byte) (n int, err error) {
	if c.cut > 0 && c.cut < len(b) {
		if n, err = c.Conn.Write(b[:c.cut]); err != nil {
			return n, err
		}
		time.Sleep(100 * time.Microsecond) // lets the first piece arrive alone, mostly; the outcome is the same
	}
	k, err := c.Conn.Write(b[n:])
	return n + k, err
}

// A TLS record that comes in two pieces is as good as one, also when a record
// holds several frames and a frame several records.
func TestTLSRecordsInPieces(t *testing.T) {
	s := newServer(t, conn.Config{}, "tcp", true)
	s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(b)) }
	nc, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	chop := &chopper{Conn: nc}
	secured := tls.Client(chop, &tls.Config{InsecureSkipVerify: true}) // the test server's own certificate
	p := &peer{t: t, nc: secured, br: bufio.NewReader(secured)}
	p.patience(time.Minute)
	p.write([]byte(handshake))
	if resp, err := http.ReadResponse(p.br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v, %v", resp, err)
	}
	said, texts, pongs := script()
	for cut := 1; cut < len(said)+30; cut += 3 {
		chop.cut = cut
		p.write(said[:cut%len(said)])
		p.write(said[cut%len(said):])
		if gotTexts, gotPongs, _ := p.hears(len(texts) + len(pongs)); !slices.Equal(gotTexts, texts) ||
			!slices.Equal(gotPongs, pongs) {
			t.Fatalf("cut at %d: heard %q and pongs %q; want %q and %q", cut, gotTexts, gotPongs, texts, pongs)
		}
	}
}
