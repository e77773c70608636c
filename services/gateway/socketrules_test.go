package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/services/internal/natstest"
)

// Rules of the protocols that their suites do not try: what a client sends, and what it reads then, as
// patterns. The last one may be a close code: the connection ends with it.
func TestSocketIORules(t *testing.T) {
	b := newBroker(t)
	g := b.socketio(withTokens)
	const entered = `^40(\{"sid":".*"\})?$`
	covered := token(t, "u", time.Hour, "orders")
	for _, c := range []struct {
		rule  string
		eio   int
		query string
		sends []string
		reads []string
		code  int // 0: it stays open
	}{
		{"v5, Connection: the payload is an object, and a client that errs so stays away", 4, "",
			[]string{`40"text"`}, []string{`^44\{"message":".*an object"`, `^41$`}, 1007},
		{"v5, Connection: null is no object", 4, "", []string{`40null`}, []string{`^44`, `^41$`}, 1007},
		{"v5, Connection: a namespace is taken as it is written", 4, "", []string{`40/?x=1,`},
			[]string{`^44/\?x=1,\{"message":"Invalid namespace"\}$`}, 0},
		{"v5, Connection: with its query, if there is one", 4, "", []string{`40/admin?x=1,{}`},
			[]string{`^44/admin\?x=1,\{"message":"Invalid namespace"\}$`}, 0},
		{"v4, Connection: a query is none of the namespace", 3, "", []string{`40/admin?x=1,`},
			[]string{`^40$`, `^44/admin,"Invalid namespace"$`}, 0},
		{"v5, Connection: DISCONNECT before CONNECT", 4, "", []string{`41`}, []string{`^44`, `^41$`}, 1007},
		{"v5, Connection: an acknowledgement before CONNECT", 4, "", []string{`431[]`}, []string{`^44`, `^41$`}, 1007},
		{"v5, Disconnection: who enters again gets what its URL asks for", 4, "&channel=orders&token=" + covered,
			[]string{"40", "41", "40", `421["unsubscribe","orders"]`, `422["subscribe","orders"]`},
			[]string{entered, entered, `^431\[\{"channel":"orders"\}\]$`, `^432\[\{"channel":"orders"`}, 0},
		{"v5, Disconnection: and not what it asked for when it entered before", 4, "",
			[]string{fmt.Sprintf(`40{"channels":["orders"],"token":%q}`, covered),
				"41", "40", `421["subscribe","orders"]`},
			[]string{entered, entered, `^431\[\{"error":"forbidden"`}, 0},
		{"v4, Disconnection: a client of revision 3 may enter again, too", 3, "&channel=public.a",
			[]string{"41", "40", `421["unsubscribe","public.a"]`},
			[]string{`^40$`, `^40$`, `^431\[\{"channel":"public.a"`}, 0},
		{"v5, Events: the id 0 is one", 4, "", []string{"40", `420["subscribe","public.a"]`},
			[]string{entered, `^430\[\{"channel":"public.a"`}, 0},
		{"v5, Events: an id above 2^53 comes back as it is", 4, "",
			[]string{"40", `429007199254740993["subscribe","public.a"]`}, []string{entered, `^439007199254740993\[`},
			0},
		{"v5, Events: nor has it a limit", 4, "",
			[]string{"40", `42123456789012345678901234567890["subscribe","public.a"]`},
			[]string{entered, `^43123456789012345678901234567890\[`}, 0},
		{"v5, Events: a name may be empty", 4, "", []string{"40", `421[""]`},
			[]string{entered, `^431\[\{"error":"bad-event"`}, 0},
		{"v5, Events: a name may be a number", 4, "", []string{"40", `421[-1.5]`},
			[]string{entered, `^431\[\{"error":"bad-event","detail":"\\"-1.5\\"`}, 0},
		{"v5, Events: a reserved name ends the connection", 4, "", []string{"40", `421["connect_error"]`},
			[]string{entered, `^42\["error"`, `^41$`}, 1007},
		{"v5, Events: nothing follows the array", 4, "", []string{"40", `421["subscribe","public.a"]x`},
			[]string{entered, `^42\["error"`, `^41$`}, 1007},
		{"v5, Binary: without attachments an event is one like others", 4, "",
			[]string{"40", `450-1["subscribe","public.a"]`}, []string{entered, `^431\[\{"channel":"public.a"`}, 0},
		{"v5, Binary: text before all attachments have come", 4, "", []string{"40", `452-["x"]`, "BIN", `42["x"]`},
			[]string{entered, `^42\["error".*unsupported`, `^42\["error".*1 binary messages`, `^41$`}, 1007},
		{"v4, Packets: the other side's own packets are passed over", 4, "",
			[]string{"0", "6", "5", "40"}, []string{entered}, 0},
		{"v4, Packets: an empty one", 4, "", []string{""}, []string{`^44`, `^41$`}, 1007},
		{"auth: null is as if it were not there", 4, "",
			[]string{`40{"channels":null,"token":null,"since":null,"details":null,"pid":null,"x":null}`,
				`421["unsubscribe","broadcast"]`},
			[]string{entered, `^431\[\{"channel":"broadcast"\}\]$`}, 0},
		{"auth: a name that is null", 4, "", []string{`40{"channels":["public.a",null]}`},
			[]string{`^44.*bad-request`, `^41$`}, 4502},
		{"auth: a name that is empty", 4, "", []string{`40{"channels":[""]}`}, []string{`^44.*empty name`, `^41$`},
			4502},
		{"auth: a pid that is no text", 4, "", []string{`40{"pid":5}`}, []string{`^44.*bad-request`, `^41$`}, 4502},
		{"subscribe: null", 4, "", []string{"40", `421["subscribe",null]`},
			[]string{entered, `^431\[\{"error":"bad-event"`}, 0},
		{"subscribe: a name that is null", 4, "", []string{"40", `421["subscribe",["public.a",null]]`},
			[]string{entered, `^431\[\{"error":"bad-event"`}, 0},
		{"subscribe: half a surrogate pair", 4, "", []string{"40", `421["subscribe","\ud800"]`},
			[]string{entered, `^431\[\{"error":"bad-channel"`}, 0},
		{"auth event: null", 4, "", []string{"40", `421["auth",null]`},
			[]string{entered, `^431\[\{"error":"bad-event"`}, 0},
	} {
		t.Run(c.rule, func(t *testing.T) {
			g := *g
			g.t = t
			s := g.session(c.eio, c.query, nil)
			for _, p := range c.sends {
				if p != "BIN" {
					s.send(p)
				} else if err := s.ws.WriteMessage(websocket.BinaryMessage, []byte{1}); err != nil {
					t.Fatal(err)
				}
			}
			for _, form := range c.reads {
				s.matches(form)
			}
			if c.code != 0 {
				if code, more := s.ended(); code != c.code || len(more) > 0 {
					t.Errorf("it ended with %d after %q, want %d", code, more, c.code)
				}
			} else if s.send("3"); c.eio == 4 { // it is open: this is no error
				s.send(`429["subscribe"]`)
				if c.reads[0] == entered {
					s.matches(`^439\[\{"error":"bad-event"`)
				}
			}
		})
	}
}

// What a POST may hold, beyond what the suites try.
func TestPollingRules(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	for _, c := range []struct {
		rule       string
		eio        int
		query      string
		body, kind string
		chunked    bool
		status     int // 200: the session goes on
	}{
		{"v4: an empty body has no packet", 4, "", "", "", false, 400},
		{"v3: an empty body has no packet", 3, "&b64=1", "", "", false, 400},
		{"v4: bytes come in base64", 4, "", "40", "application/octet-stream", false, 400},
		{"v3: a payload of bytes", 3, "", "\x00\x01\xff2", "application/octet-stream", false, 200},
		{"v3: text that is called bytes", 3, "", "1:2", "application/octet-stream", false, 400},
		{"v4: nothing follows the last separator", 4, "", "40\x1e", "", false, 400},
		{"v4: text and bytes in one payload", 4, "", "40\x1e451-[\"x\"]\x1ebAQI=", "", false, 200},
		{"v4: base64 is padded", 4, "", "bAQI", "", false, 400},
		{"v4: text is UTF-8", 4, "", "42[\"\xff\"]", "", false, 400},
		{"v3: a length counts UTF-16 units", 3, "&b64=1", "8:42[\"😀\"]1:2", "", false, 200},
		{"v3: a length is digits alone", 3, "&b64=1", "+1:2", "", false, 400},
		{"v4: a body without a length", 4, "", "40", "", true, 200},
		{"v4: a body without a length, above maxPayload", 4, "", "4" + strings.Repeat("x", maxPayload), "", true, 413},
	} {
		t.Run(c.rule, func(t *testing.T) {
			g := *g
			g.t = t
			p := g.poller(c.eio, c.query)
			r, err := http.NewRequest(http.MethodPost, p.url, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.chunked {
				r.Body, r.ContentLength = io.NopCloser(r.Body), -1
			}
			if c.kind != "" {
				r.Header.Set("Content-Type", c.kind)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != c.status {
				t.Errorf("got %s, want %d", resp.Status, c.status)
			}
			if c.status != http.StatusOK {
				natstest.Eventually(t, patience, "the session is gone", func() bool { return !g.engine.Has(p.sid) })
			} else if !g.engine.Has(p.sid) {
				t.Error("the session is gone")
			}
		})
	}
}

// JSONP is of revision 3; clients of revision 4 kept it up to Socket.IO 4.2.
func TestJSONPInRevision4(t *testing.T) {
	b := newBroker(t)
	g := b.socketio()
	do := func(method, query string, body string) (text string) {
		t.Helper()
		r, err := http.NewRequest(method, fmt.Sprintf("http://%s/socket.io/?EIO=4&transport=polling&j=3%s",
			g.Addr(), query),
			strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Referer", "http://"+g.Addr().String()+"/page")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		got, _ := io.ReadAll(resp.Body)
		if method == http.MethodPost {
			return string(got)
		}
		argument, ok := strings.CutPrefix(string(got), "___eio[3](")
		argument, ok2 := strings.CutSuffix(argument, ");")
		if !ok || !ok2 || json.Unmarshal([]byte(argument), &text) != nil ||
			resp.Header.Get("Content-Type") != "text/javascript; charset=UTF-8" {
			t.Fatalf("%s is no script", got)
		}
		return text
	}
	_, sid, _ := strings.Cut(do(http.MethodGet, "", ""), `"sid":"`)
	sid, _, _ = strings.Cut(sid, `"`)
	at := "&sid=" + sid
	if got := do(http.MethodPost, at, "d="+url.QueryEscape("40")); got != "ok" {
		t.Fatalf("a form was answered %q", got)
	}
	if got := do(http.MethodGet, at, ""); !strings.HasPrefix(got, `40{"sid":`) {
		t.Fatalf("got %q", got)
	}
	b.publish("broadcast", "\"\u2028\u2029</script>\"")
	if got := do(http.MethodGet, at, ""); got != "42[\"message\",{\"data\":\"\u2028\u2029</script>\"}]" {
		t.Errorf("got %q", got)
	}
}
