package ingest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

// The body is the data, by its content type.
func TestChannelBodies(t *testing.T) {
	r := start(t, startNATS(t))
	for _, tt := range []struct{ contentType, body, data string }{
		{"application/json", `{"n": 1}`, `{"n": 1}`},
		{"application/json", "  [1,\n2]\n", "[1,2]"},
		{"application/json; charset=utf-8", `"ü"`, `"ü"`},
		{"application/problem+json", `{"n":1}`, `{"n":1}`},
		{"application/vnd.herald.v1+json", `null`, `null`},
		{"", `{"n":1}`, `{"n":1}`},
		{"text/plain", `disk full`, `"disk full"`},
		{"text/plain", `{"n":1}`, `"{\"n\":1}"`},
		{"text/plain", "two\nlines\t\"quoted\" \\ \x00", `"two\nlines\t\"quoted\" \\ \u0000"`},
		{"text/plain", "", `""`},
		{"text/plain; charset=UTF-8", "<b>ü & 😀</b>", `"<b>ü & 😀</b>"`},
		{"text/html", "<p>", `"<p>"`},
		{"application/x-www-form-urlencoded", "a=1&b=%20", `"a=1&b=%20"`},
		{"application/octet-stream", "\x00\xff{", `"data:application/octet-stream;base64,AP97"`},
		{"Application/Octet-Stream; x=y", "", `"data:application/octet-stream;base64,"`},
		// The byte order mark is a part of bytes.
		{"application/octet-stream", proto.BOM + "{", `"data:application/octet-stream;base64,77u/ew=="`},
	} {
		res := r.post("/v1/channels/alerts", tt.body, "Content-Type: "+tt.contentType).result(t, http.StatusOK)
		_, m := r.last()
		if res.Status != proto.StatusStored || res.Channel != "alerts" || string(m.Data) != tt.data ||
			m.Channel != "alerts" || m.Event != "message" {
			t.Errorf("%q %q: got %+v, data %s, want %s", tt.contentType, tt.body, res, m.Data, tt.data)
		}
	}
}

func TestChannelBodiesRefused(t *testing.T) {
	r := start(t, startNATS(t))
	for _, tt := range []struct {
		contentType, body string
		want              *proto.Problem
	}{
		{"application/json", ``, proto.ProblemInvalidJSON},
		{"", ``, proto.ProblemInvalidJSON},
		{"", `disk full`, proto.ProblemInvalidJSON},
		{"application/json", `{"n":1} 2`, proto.ProblemInvalidJSON},
		{"application/json", "\"\xff\"", proto.ProblemInvalidJSON},
		{"application/json", `{"k":1,"k":2}`, proto.ProblemInvalidMessage},
		{"application/json", strings.Repeat("[", 65) + strings.Repeat("]", 65), proto.ProblemInvalidMessage},
		{"application/json", `"` + strings.Repeat("x", 64<<10) + `"`, proto.ProblemTooLarge},
		{"text/plain", "\xff", proto.ProblemInvalidJSON},
		{"text/plain", strings.Repeat("x", 64<<10), proto.ProblemTooLarge},
		{"text/plain", strings.Repeat("\x01", 20<<10), proto.ProblemTooLarge},            // six times as long as JSON
		{"application/octet-stream", strings.Repeat("x", 48<<10), proto.ProblemTooLarge}, // a third longer as JSON
		{"text/plain; charset=iso-8859-1", "x", proto.ProblemMediaType},
		{"application/xml", "<x/>", proto.ProblemMediaType},
		{"image/png", "x", proto.ProblemMediaType},
		{"application/x-ndjson", "1", proto.ProblemMediaType},
		{"multipart/form-data; boundary=x", "x", proto.ProblemMediaType},
		{"image/svg+xml", "x", proto.ProblemMediaType},
	} {
		r.post("/v1/channels/alerts", tt.body, "Content-Type: "+tt.contentType).problem(t, tt.want)
	}
	if n := len(stored(t, r.nc)); n != 0 {
		t.Errorf("stored: got %d messages, want none", n)
	}
}

// The channel is decoded once, whatever it is made of.
func TestChannelInPath(t *testing.T) {
	r := start(t, startNATS(t))
	for path, channel := range map[string]string{
		"orders.eu":         "orders.eu",
		"orders%2Eeu":       "orders.eu",
		"user%2F4711":       "user/4711",
		"user%2f4711":       "user/4711",
		"%61":               "a",
		"a%2541":            "a%41",
		"a%252F":            "a%2F",
		"a%2Fb%2541":        "a/b%41", // RawPath is set, and the rest still decoded once
		"a%3Fx=1":           "a?x=1",
		"a%23z":             "a#z",
		"a+b":               "a+b",
		"a&b=c;d,e@f:g$h!i": "a&b=c;d,e@f:g$h!i",
		"%7Bchannel%7D":     "{channel}",
		"a%5B1%5D%7C~^":     "a[1]|~^",
		"..%2F..":           "", // an empty token
		"..":                "",
		".":                 "",
		"a.":                "",
		"a%20b":             "",
		"a%0Ab":             "",
		"a%0D%0APUB%20x":    "",
		"%00":               "",
		"a.*":               "",
		"a.%3E":             "",
		"%2A":               "",
		"a%22":              "",
		"a%5Cb":             "",
		"%C3%BC":            "",
		"%FF":               "",
		strings.Repeat("c", proto.MaxChannelBytes):   strings.Repeat("c", proto.MaxChannelBytes),
		strings.Repeat("c", proto.MaxChannelBytes+1): "",
	} {
		a := r.post("/v1/channels/"+path, `1`)
		if channel == "" {
			a.problem(t, proto.ProblemInvalidParameter)
			continue
		}
		if res := a.result(t, http.StatusOK); res.Channel != channel {
			t.Errorf("%s: got channel %q, want %q", path, res.Channel, channel)
		}
		if got, m := r.last(); got.Channel != channel || m.Channel != channel {
			t.Errorf("%s: stored on %q as %q, want %q", path, got.Channel, m.Channel, channel)
		}
	}
}

// Query parameters and the idempotency header.
func TestChannelParameters(t *testing.T) {
	r := start(t, startNATS(t))
	res := r.post("/v1/channels/a?event=%C3%BCber+all&ttl=60&ephemeral=false", `1`, "Idempotency-Key: k").result(t,
		http.StatusOK)
	if _, m := r.last(); m.Event != "über all" || res.Status != proto.StatusStored {
		t.Errorf("got %+v, %+v", res, m)
	}
	stream, err := r.js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	lines := proto.ReadPack(msg.Data)
	if !lines.Next() || lines.Expires() != lines.Accepted()/1000+60_000 || msg.Header.Get("Nats-Msg-Id") != "env/a/k" {
		t.Errorf("got %s with the headers %v", msg.Data, msg.Header)
	}
	for _, query := range []string{
		"event=", "event=it%27s", "event=" + strings.Repeat("e", proto.MaxEventBytes+1), "event=a&event=b", "ttl=",
		"ttl=-1", "ttl=1.5",
		"ttl=1h", "ttl=86400000",
		"ttl=99999999999999999999", "ephemeral", "ephemeral=1", "ephemeral=TRUE", "Event=a", "channel=b", "id=k",
		"event=%zz", "a;b",
	} {
		r.post("/v1/channels/a?"+query, `1`).problem(t, proto.ProblemInvalidParameter)
	}
}
