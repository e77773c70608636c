package conn_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/gateway/internal/conn"
)

const accepted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// The handshake says what was negotiated, and the connection knows it.
func TestHandshakeExtension(t *testing.T) {
	for _, c := range []struct {
		name    string
		deflate bool
		offer   string
		answer  string
	}{
		{"offered", true, "permessage-deflate; client_max_window_bits", accepted},
		{"offered with a window", true, "permessage-deflate; server_max_window_bits=15", accepted +
			"; server_max_window_bits=15"},
		{"offered wrongly", true, "permessage-deflate; server_max_window_bits=9", ""},
		{"not offered", true, "", ""},
		{"turned off", false, "permessage-deflate", ""},
	} {
		s := newServer(t, conn.Config{Deflate: c.deflate}, "tcp", false)
		_, conn, answer := s.connectOffering(c.offer)
		if got := strings.Join(answer, "|"); got != c.answer || conn.Deflates() != (c.answer != "") {
			t.Errorf("%s: got %q and %t, want %q", c.name, got, conn.Deflates(), c.answer)
		}
	}
}

// connectOffering opens a client with this Sec-WebSocket-Extensions and
// returns the answer's.
func (s *server) connectOffering(offer string) (*peer, *conn.Conn, []string) {
	s.t.Helper()
	p := s.dial()
	p.write([]byte(strings.Replace(handshake, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: "+offer+"\r\n\r\n", 1)))
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		s.t.Fatalf("handshake: %v, %v", resp, err)
	}
	return p, <-s.conns, resp.Header["Sec-Websocket-Extensions"]
}
