package conn

import (
	"net/http"
	"strings"
	"testing"
)

const accepted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		name   string
		lines  []string
		answer string
		window int
	}{
		{"nothing", nil, "", 0},
		{"an empty line", []string{""}, "", 0},
		{"another extension", []string{"permessage-bzip2, x-webkit-deflate-frame"}, "", 0},
		{"Firefox and Safari", []string{"permessage-deflate"}, accepted, 15},
		{"Chromium", []string{"permessage-deflate; client_max_window_bits"}, accepted, 15},
		{"Java-WebSocket", []string{accepted}, accepted, 15},
		{"Python's websockets", []string{"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"}, accepted + "; server_max_window_bits=12", 12},
		{"full window", []string{"permessage-deflate; server_max_window_bits=15"}, accepted + "; server_max_window_bits=15", 15},
		{"14 bits, of which 12 are used", []string{"permessage-deflate; server_max_window_bits=14"}, accepted + "; server_max_window_bits=12", 12},
		{"too narrow", []string{"permessage-deflate; server_max_window_bits=11"}, "", 0},
		{"the narrowest", []string{"permessage-deflate; server_max_window_bits=8"}, "", 0},
		{"the first that can be honoured", []string{"permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits"}, accepted, 15},
		{"after another extension", []string{"foo; bar=\"a\\b\"; baz, permessage-deflate"}, accepted, 15},
		{"in a second line", []string{"foo", "permessage-deflate"}, accepted, 15},
		{"without spaces", []string{"permessage-deflate;client_max_window_bits=9;server_no_context_takeover"}, accepted, 15},
		{"with more spaces", []string{" \tpermessage-deflate ; client_max_window_bits = 9\t, "}, accepted, 15},
		{"empty elements", []string{",, permessage-deflate ,,"}, accepted, 15},
		{"quoted value", []string{`permessage-deflate; client_max_window_bits="1\0"`}, accepted, 15},
		{"unknown parameter", []string{"permessage-deflate; level=9"}, "", 0},
		{"parameter twice", []string{"permessage-deflate; client_max_window_bits; client_max_window_bits"}, "", 0},
		{"value where there is none", []string{"permessage-deflate; server_no_context_takeover=1"}, "", 0},
		{"the same of the client's", []string{"permessage-deflate; client_no_context_takeover=true"}, "", 0},
		{"no value where there is one", []string{"permessage-deflate; server_max_window_bits"}, "", 0},
		{"leading zero", []string{"permessage-deflate; client_max_window_bits=09"}, "", 0},
		{"sign", []string{"permessage-deflate; client_max_window_bits=+9"}, "", 0},
		{"7 bits", []string{"permessage-deflate; client_max_window_bits=7"}, "", 0},
		{"16 bits", []string{"permessage-deflate; server_max_window_bits=16"}, "", 0},
		{"no number", []string{"permessage-deflate; client_max_window_bits=all"}, "", 0},
		{"upper case", []string{"Permessage-Deflate"}, "", 0},
		{"longer name", []string{"permessage-deflate2"}, "", 0},
		{"parameter without a name", []string{"permessage-deflate; =1"}, "", 0},
		{"semicolon at the end", []string{"permessage-deflate;"}, "", 0},
		{"value missing", []string{"permessage-deflate; client_max_window_bits="}, "", 0},
		{"empty quotes", []string{`permessage-deflate; client_max_window_bits=""`}, "", 0},
		{"quotes left open", []string{`permessage-deflate; client_max_window_bits="10`}, "", 0},
		{"quoted space", []string{`permessage-deflate; client_max_window_bits="1 0"`}, "", 0},
		{"words side by side", []string{"permessage-deflate client_max_window_bits"}, "", 0},
		{"malformed after a good one", []string{"permessage-deflate, foo bar"}, "", 0},
		{"malformed in another line", []string{"permessage-deflate", "/"}, "", 0},
		{"a control character", []string{"permessage-deflate\x01"}, "", 0},
	} {
		if answer, window := negotiate(c.lines); answer != c.answer || window != c.window {
			t.Errorf("%s: %q: got %q, %d; want %q, %d", c.name, c.lines, answer, window, c.answer, c.window)
		}
	}
}

// The handshake says what was negotiated, and the connection knows it.
func TestHandshakeExtension(t *testing.T) {
	for _, c := range []struct {
		name    string
		deflate bool
		offer   string
		answer  string
		window  int
	}{
		{"offered", true, "permessage-deflate; client_max_window_bits", accepted, FullWindow},
		{"offered narrow", true, "permessage-deflate; server_max_window_bits=13", accepted + "; server_max_window_bits=12", NarrowWindow},
		{"offered wrongly", true, "permessage-deflate; server_max_window_bits=9", "", 0},
		{"not offered", true, "", "", 0},
		{"turned off", false, "permessage-deflate", "", 0},
	} {
		s := newServer(t, Config{Deflate: c.deflate}, "tcp", false)
		_, conn, answer := s.connectOffering(c.offer)
		if got := strings.Join(answer, "|"); got != c.answer || conn.Window() != c.window {
			t.Errorf("%s: got %q and window %d, want %q and %d", c.name, got, conn.Window(), c.answer, c.window)
		}
	}
}

// connectOffering opens a client with this Sec-WebSocket-Extensions and
// returns the answer's.
func (s *server) connectOffering(offer string) (*peer, *Conn, []string) {
	s.t.Helper()
	p := s.dial()
	p.write([]byte(strings.Replace(handshake, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: "+offer+"\r\n\r\n", 1)))
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		s.t.Fatalf("handshake: %v, %v", resp, err)
	}
	return p, <-s.conns, resp.Header["Sec-Websocket-Extensions"]
}

// Whatever is offered, the answer is one that the client may be given: made of
// its own offers, and the same however the list is written.
func FuzzNegotiate(f *testing.F) {
	for _, seed := range []string{
		"permessage-deflate; client_max_window_bits", "foo, permessage-deflate; server_max_window_bits=\"12\"", ";", `a;b="\`, ",,", accepted,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		answer, window := negotiate([]string{line})
		offers, ok := parseOffers(line)
		var again []string
		for _, o := range offers {
			s := o.name
			for _, p := range o.params {
				s += " ;" + p.name
				if p.valued {
					s += `= "` + p.value + `"`
				}
			}
			again = append(again, s)
		}
		if answer2, window2 := negotiate(again); answer2 != answer || window2 != window {
			t.Fatalf("%q: got %q, %d; written as %q: %q, %d", line, answer, window, again, answer2, window2)
		}
		switch window {
		case 0:
			if answer != "" {
				t.Fatalf("%q: got %q and no window", line, answer)
			}
		case NarrowWindow, FullWindow:
			if !ok || !strings.Contains(line, permessageDeflate) || !strings.HasPrefix(answer, accepted) || window == NarrowWindow && !strings.Contains(line, serverWindowBits) {
				t.Fatalf("%q: got %q, %d", line, answer, window)
			}
		default:
			t.Fatalf("%q: got window %d", line, window)
		}
	})
}
