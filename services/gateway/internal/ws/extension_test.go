package ws_test

import (
	"strings"
	"testing"

	"github.com/herald-push/herald/services/gateway/internal/ws"
)

const accepted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		name   string
		lines  []string
		answer string
	}{
		{"nothing", nil, ""},
		{"an empty line", []string{""}, ""},
		{"another extension", []string{"permessage-bzip2, x-webkit-deflate-frame"}, ""},
		{"Firefox and Safari", []string{"permessage-deflate"}, accepted},
		{"Chromium", []string{"permessage-deflate; client_max_window_bits"}, accepted},
		{"Java-WebSocket", []string{accepted}, accepted},
		{"both windows", []string{"permessage-deflate; server_max_window_bits=15; client_max_window_bits=12"},
			accepted + "; server_max_window_bits=15"},
		{"full window", []string{"permessage-deflate; server_max_window_bits=15"}, accepted +
			"; server_max_window_bits=15"},
		{"too narrow", []string{"permessage-deflate; server_max_window_bits=14"}, ""},
		{"the narrowest", []string{"permessage-deflate; server_max_window_bits=8"}, ""},
		{"the first that can be honoured",
			[]string{"permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits"},
			accepted},
		{"after another extension", []string{"foo; bar=\"a\\b\"; baz, permessage-deflate"}, accepted},
		{"in a second line", []string{"foo", "permessage-deflate"}, accepted},
		{"without spaces", []string{"permessage-deflate;client_max_window_bits=9;server_no_context_takeover"},
			accepted},
		{"with more spaces", []string{" \tpermessage-deflate ; client_max_window_bits = 9\t, "}, accepted},
		{"empty elements", []string{",, permessage-deflate ,,"}, accepted},
		{"quoted value", []string{`permessage-deflate; client_max_window_bits="1\0"`}, accepted},
		{"unknown parameter", []string{"permessage-deflate; level=9"}, ""},
		{"parameter twice", []string{"permessage-deflate; client_max_window_bits; client_max_window_bits"}, ""},
		{"value where there is none", []string{"permessage-deflate; server_no_context_takeover=1"}, ""},
		{"the same of the client's", []string{"permessage-deflate; client_no_context_takeover=true"}, ""},
		{"no value where there is one", []string{"permessage-deflate; server_max_window_bits"}, ""},
		{"leading zero", []string{"permessage-deflate; client_max_window_bits=09"}, ""},
		{"sign", []string{"permessage-deflate; client_max_window_bits=+9"}, ""},
		{"7 bits", []string{"permessage-deflate; client_max_window_bits=7"}, ""},
		{"16 bits", []string{"permessage-deflate; server_max_window_bits=16"}, ""},
		{"no number", []string{"permessage-deflate; client_max_window_bits=all"}, ""},
		{"upper case", []string{"Permessage-Deflate"}, ""},
		{"longer name", []string{"permessage-deflate2"}, ""},
		{"parameter without a name", []string{"permessage-deflate; =1"}, ""},
		{"semicolon at the end", []string{"permessage-deflate;"}, ""},
		{"value missing", []string{"permessage-deflate; client_max_window_bits="}, ""},
		{"empty quotes", []string{`permessage-deflate; client_max_window_bits=""`}, ""},
		{"quotes left open", []string{`permessage-deflate; client_max_window_bits="10`}, ""},
		{"quoted space", []string{`permessage-deflate; client_max_window_bits="1 0"`}, ""},
		{"words side by side", []string{"permessage-deflate client_max_window_bits"}, ""},
		{"malformed after a good one", []string{"permessage-deflate, foo bar"}, ""},
		{"malformed in another line", []string{"permessage-deflate", "/"}, ""},
		{"a control character", []string{"permessage-deflate\x01"}, ""},
	} {
		if answer := ws.Negotiate(c.lines); answer != c.answer {
			t.Errorf("%s: %q: got %q, want %q", c.name, c.lines, answer, c.answer)
		}
	}
}

// Whatever is offered, the answer is one that the client may be given: made of
// its own offers, and the same with other extensions before it.
func FuzzNegotiate(f *testing.F) {
	for _, seed := range []string{
		"permessage-deflate; client_max_window_bits", "foo, permessage-deflate; server_max_window_bits=\"12\"",
		";", `a;b="\`, ",,", accepted,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		answer := ws.Negotiate([]string{line})
		for _, same := range [][]string{{line, ""}, {"foo", line}, {",", line, ","},
			{"permessage-bzip2; a=1; b", line}} {
			if other := ws.Negotiate(same); other != answer {
				t.Fatalf("%q: got %q, want %q as for %q", same, other, answer, line)
			}
		}
		switch answer {
		case "":
		case accepted, accepted + "; server_max_window_bits=15":
			if !strings.Contains(line, "permessage-deflate") || answer != accepted &&
				!strings.Contains(line, "server_max_window_bits") {
				t.Fatalf("%q: got %q", line, answer)
			}
		default:
			t.Fatalf("%q: got %q", line, answer)
		}
	})
}
