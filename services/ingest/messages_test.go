package ingest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/ingest/internal/publish"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

// One message is answered by one result, with the id of what is stored, and
// what is stored is what PROTOCOL.md says.
func TestPublishOne(t *testing.T) {
	r := start(t, startNATS(t))
	before := time.Now().Truncate(time.Millisecond)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	a := r.post("/v1/messages",
		`{"channel": "orders.eu", "data": {"n": 1}, "event": "created", "id": "order-17", "ttl": 3600}`,
		"traceparent: "+trace)
	res := a.result(t, http.StatusOK)
	if want := (proto.Result{Status: proto.StatusStored, ID: idAt(r.publisher.Epoch(), 1),
		Channel: "orders.eu"}); res != want {
		t.Errorf("result: got %+v, want %+v", res, want)
	}

	js, err := r.js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := js.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	lines := proto.ReadPack(msg.Data)
	if !lines.Next() || lines.Channel() == nil {
		t.Fatalf("stored: %s", msg.Data)
	}
	m, err := proto.ParseMessage(lines.Message())
	if err != nil {
		t.Fatalf("body %s: %v", lines.Message(), err)
	}
	at, err := time.Parse(proto.TimeLayout, m.Time)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("time: got %q", m.Time)
	}
	if want := fmt.Sprintf(`{"channel":"orders.eu","event":"created","data":{"n": 1},"sender":"env","time":%q}`,
		m.Time); string(lines.Message()) != want {
		t.Errorf("body:\n got %s\nwant %s", lines.Message(), want)
	}
	if got := msg.Header.Get(nats.MsgIdHdr); got != "env/orders.eu/order-17" {
		t.Errorf("message id: got %q", got)
	}
	accepted := time.UnixMicro(lines.Accepted())
	if accepted.UnixMilli() != at.UnixMilli() || lines.Expires() != accepted.Add(time.Hour).UnixMilli() ||
		string(lines.Source()) != "127.0.0.1" || string(lines.Traceparent()) != trace {
		t.Errorf("private part: %s, accepted %s", lines.Message(), accepted)
	}

	if err := theSpec(t).validate("asyncapi.yaml#/components/schemas/Body", lines.Message()); err != nil {
		t.Errorf("body: %v", err)
	}
}

// What is left out is filled in; what was sent with line breaks is stored on
// one line.
func TestPublishDefaults(t *testing.T) {
	r := start(t, startNATS(t))
	r.post("/v1/messages", "{\n  \"channel\": \"a\",\n  \"data\": {\n    \"text\": \"two\\nlines\"\n  }\n}\n").result(t,
		http.StatusOK)
	got, m := r.last()
	if m.Event != "message" || m.Sender != "env" || string(m.Data) != `{"text":"two\nlines"}` ||
		strings.Contains(string(got.Body), "\n") {
		t.Errorf("stored: got %s", got.Body)
	}
	if got.Trace != "" {
		t.Errorf("traceparent: got %q, want none", got.Trace)
	}
	for _, data := range []string{"null", "true", "0", `""`, "[]", "{}", "-1.5e3", `"\u2028"`, `"😀"`} {
		r.post("/v1/messages", `{"channel":"a","data":`+data+`}`).result(t, http.StatusOK)
		if _, m := r.last(); string(m.Data) != data {
			t.Errorf("data: got %s, want %s", m.Data, data)
		}
	}
}

// A key goes into X-API-KEY or behind Bearer.
func TestAuthentication(t *testing.T) {
	r := start(t, startNATS(t))
	for _, headers := range [][]string{
		{"X-API-KEY: " + envKey},
		{"X-API-KEY:", "Authorization: Bearer " + envKey},
		{"X-API-KEY:", "Authorization: bearer " + envKey},
	} {
		r.post("/v1/messages", `{"channel":"a","data":1}`, headers...).result(t, http.StatusOK)
	}
	for _, headers := range [][]string{
		{"X-API-KEY:"},
		{"X-API-KEY: " + envKey + "x"},
		{"X-API-KEY: " + envKey[:len(envKey)-1]},
		{"X-API-KEY: " + strings.ToUpper(envKey)},
		{"X-API-KEY:", "Authorization: Basic " + envKey},
		{"X-API-KEY:", "Authorization: Bearer"},
		{"X-API-KEY:", "Authorization: " + envKey},
	} {
		for _, path := range []string{"/v1/messages", "/v1/channels/a"} {
			a := r.post(path, `{"channel":"a","data":1}`, headers...)
			a.problem(t, proto.ProblemUnauthorized)
			if got := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
				t.Errorf("WWW-Authenticate: got %q", got)
			}
		}
	}
	if n := len(stored(t, r.nc)); n != 3 {
		t.Errorf("stored: got %d messages, want 3", n)
	}
}

// Every rule of a message, one broken at a time: the problem's kind and
// pointer, and nothing stored.
func TestInvalidMessages(t *testing.T) {
	r := start(t, startNATS(t))
	long := strings.Repeat("x", 300)
	many := `"` + strings.Join(numbered(101), `","`) + `"`
	tests := []struct {
		name, body string
		want       *proto.Problem
		pointer    string
	}{
		{"empty", ``, proto.ProblemInvalidJSON, ""},
		{"blank", " \n", proto.ProblemInvalidJSON, ""},
		{"no JSON", `{"channel":"a","data":1`, proto.ProblemInvalidJSON, ""},
		{"more after it", `{"channel":"a","data":1} {}`, proto.ProblemInvalidJSON, ""},
		{"no UTF-8", "{\"channel\":\"a\",\"data\":\"\xff\"}", proto.ProblemInvalidJSON, ""},
		{"a string", `"a"`, proto.ProblemInvalidMessage, ""},
		{"null", `null`, proto.ProblemInvalidMessage, ""},
		{"unknown member", `{"channel":"a","data":1,"topic":"b"}`, proto.ProblemInvalidMessage, "/topic"},
		{"member in capitals", `{"Channel":"a","data":1}`, proto.ProblemInvalidMessage, "/Channel"},
		{"member with a slash", `{"channel":"a","data":1,"a/b~c":1}`, proto.ProblemInvalidMessage, "/a~1b~0c"},
		{"member twice", `{"channel":"a","channel":"b","data":1}`, proto.ProblemInvalidMessage, ""},
		{"no channel", `{"data":1}`, proto.ProblemInvalidMessage, "/channel"},
		{"empty channel", `{"channel":"","data":1}`, proto.ProblemInvalidMessage, "/channel"},
		{"channel is a number", `{"channel":1,"data":1}`, proto.ProblemInvalidMessage, "/channel"},
		{"channel is null", `{"channel":null,"data":1}`, proto.ProblemInvalidMessage, "/channel"},
		{"channel too long", `{"channel":"` + long + `","data":1}`, proto.ProblemInvalidMessage, "/channel"},
		{"channel is a pattern", `{"channel":"a.*","data":1}`, proto.ProblemInvalidMessage, "/channel"},
		{"channel with an empty token", `{"channel":"a..b","data":1}`, proto.ProblemInvalidMessage, "/channel"},
		{"channel and channels", `{"channel":"a","channels":["b"],"data":1}`, proto.ProblemInvalidMessage, "/channels"},
		{"no channels", `{"channels":[],"data":1}`, proto.ProblemInvalidMessage, "/channel"},
		{"channels is a string", `{"channels":"a","data":1}`, proto.ProblemInvalidMessage, "/channels"},
		{"too many channels", `{"channels":[` + many + `],"data":1}`, proto.ProblemInvalidMessage, "/channels"},
		{"a channel twice", `{"channels":["a","b","a"],"data":1}`, proto.ProblemInvalidMessage, "/channels/2"},
		{"a wrong channel", `{"channels":["a","b c"],"data":1}`, proto.ProblemInvalidMessage, "/channels/1"},
		{"no data", `{"channel":"a"}`, proto.ProblemInvalidMessage, "/data"},
		{"data too large", `{"channel":"a","data":"` + strings.Repeat("x", 64<<10-1) + `"}`, proto.ProblemTooLarge,
			"/data"},
		{"data too deep", `{"channel":"a","data":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`,
			proto.ProblemInvalidMessage, ""},
		{"a key twice in data", `{"channel":"a","data":{"k":1,"\u006b":2}}`, proto.ProblemInvalidMessage, ""},
		{"empty event", `{"channel":"a","data":1,"event":""}`, proto.ProblemInvalidMessage, "/event"},
		{"event too long", `{"channel":"a","data":1,"event":"` + long + `"}`, proto.ProblemInvalidMessage, "/event"},
		{"event with a quote", `{"channel":"a","data":1,"event":"it's"}`, proto.ProblemInvalidMessage, "/event"},
		{"event with a line break", `{"channel":"a","data":1,"event":"a\nb"}`, proto.ProblemInvalidMessage, "/event"},
		{"empty id", `{"channel":"a","data":1,"id":""}`, proto.ProblemInvalidMessage, "/id"},
		{"id too long", `{"channel":"a","data":1,"id":"` + long + `"}`, proto.ProblemInvalidMessage, "/id"},
		{"id with a space", `{"channel":"a","data":1,"id":"a b"}`, proto.ProblemInvalidMessage, "/id"},
		{"id with a line break", `{"channel":"a","data":1,"id":"a\r\nb"}`, proto.ProblemInvalidMessage, "/id"},
		{"id is a number", `{"channel":"a","data":1,"id":17}`, proto.ProblemInvalidMessage, "/id"},
		{"ephemeral is a string", `{"channel":"a","data":1,"ephemeral":"true"}`, proto.ProblemInvalidMessage,
			"/ephemeral"},
		{"ttl below 0", `{"channel":"a","data":1,"ttl":-1}`, proto.ProblemInvalidMessage, "/ttl"},
		{"ttl in milliseconds", `{"channel":"a","data":1,"ttl":86400000}`, proto.ProblemInvalidMessage, "/ttl"},
		{"ttl with a fraction", `{"channel":"a","data":1,"ttl":1.5}`, proto.ProblemInvalidMessage, "/ttl"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := r.post("/v1/messages", tt.body).problem(t, tt.want)
			if p.Pointer != tt.pointer || p.Detail == "" {
				t.Errorf("alone: got pointer %q, detail %q, want pointer %q", p.Pointer, p.Detail, tt.pointer)
			}
			if tt.want == proto.ProblemInvalidJSON && tt.name != "no UTF-8" {
				return // there is no third element then
			}
			// The same as the third of an array whose others are right.
			good := `{"channel":"a","data":1}`
			p = r.post("/v1/messages", "["+strings.Join([]string{good, good, good, tt.body, good}, ",")+
				"]").problem(t, tt.want)
			if want := "/3" + tt.pointer; p.Pointer != want {
				t.Errorf("in an array: got pointer %q, want %q", p.Pointer, want)
			}
		})
	}
	if n := len(stored(t, r.nc)); n != 0 {
		t.Errorf("stored: got %d messages, want none", n)
	}
}

// An array that is no JSON is that, wherever the fault is.
func TestInvalidArrays(t *testing.T) {
	r := start(t, startNATS(t))
	good := `{"channel":"a","data":1}`
	for _, body := range []string{"[", "[" + good, "[" + good + ",]", "[" + good + " " + good + "]", "[" + good + "] 1",
		"[" + good + ",nope]", "[" + good + ",," + good + "]", "[," + good + "]", "[" + good + "}", "[" + good + "}]",
		"[" + good + "]]", "[" + good + ",\"", "[,]", "[}"} {
		r.post("/v1/messages", body).problem(t, proto.ProblemInvalidJSON)
	}
	r.post("/v1/messages", "[["+good+"]]").problem(t, proto.ProblemInvalidMessage)
	// The first fault ends it: what would come after it is not read.
	if p := r.post("/v1/messages", "["+good+`,{"data":1},`).problem(t,
		proto.ProblemInvalidMessage); p.Pointer != "/1/channel" {
		t.Errorf("pointer: got %q, want /1/channel", p.Pointer)
	}
	if n := len(stored(t, r.nc)); n != 0 {
		t.Errorf("stored: got %d messages, want none", n)
	}
}

// An array, and a message with channels, are answered by an array of results,
// one per message and channel, in order.
func TestPublishArray(t *testing.T) {
	r := start(t, startNATS(t))
	live, err := r.nc.SubscribeSync(proto.SubjectLive + ">")
	if err != nil {
		t.Fatal(err)
	}
	got := r.post("/v1/messages",
		` [{"channel":"a","data":1},{"channels":["b","c"],"data":2},{"channel":"d","data":3,"ephemeral":true}]`).
		results(t, http.StatusOK)
	epoch := r.publisher.Epoch()
	inPack := func(place int) string { return proto.Cursor{Epoch: epoch, Seq: proto.Number(1, place)}.String() }
	want := []proto.Result{
		{Status: proto.StatusStored, ID: inPack(0), Channel: "a"}, {Status: proto.StatusStored, ID: inPack(1),
			Channel: "b"},
		{Status: proto.StatusStored, ID: inPack(2), Channel: "c"}, {Status: proto.StatusSent, Channel: "d"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("array:\n got %+v\nwant %+v", got, want)
	}
	if got := r.post("/v1/messages", `{"channels":["a"],"data":1}`).results(t, http.StatusOK); len(got) != 1 ||
		got[0].ID != idAt(epoch, 2) {
		t.Errorf("one of channels: got %+v, want an array of one", got)
	}
	if got := r.post("/v1/messages", `{"channels":["a","b"],"data":1,"ephemeral":true}`).results(t,
		http.StatusOK); len(got) != 2 || got[1].Status != proto.StatusSent {
		t.Errorf("ephemeral to channels: got %+v", got)
	}
	if a := r.post("/v1/messages", `[]`); a.status != http.StatusOK || strings.TrimSpace(a.body) != "[]" {
		t.Errorf("empty array: got %d %s", a.status, a.body)
	}
	if n := len(stored(t, r.nc)); n != 4 {
		t.Errorf("stored: got %d messages, want 4", n)
	}
	ephemeral := 0
	for range 4 { // packs: of three and of one, of one and of two ephemeral ones
		msg, err := live.NextMsg(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		pack, err := natsx.OpenPack(msg)
		if err != nil {
			t.Fatal(err)
		}
		for pack.Next() {
			if pack.Seq == 0 {
				ephemeral++
			}
		}
	}
	if ephemeral != 3 {
		t.Errorf("ephemeral messages heard: got %d, want 3", ephemeral)
	}
}

// A long array is stored in order, beyond the window.
func TestPublishLongArray(t *testing.T) {
	r := start(t, startNATS(t))
	const n = 3*publish.MaxWindow + 7
	var items []string
	for i := range n {
		items = append(items, fmt.Sprintf(`{"channel":"c.%d","data":%d}`, i%5, i))
	}
	results := r.post("/v1/messages", "["+strings.Join(items, ",")+"]").results(t, http.StatusOK)
	all := stored(t, r.nc)
	if len(results) != n || len(all) != n {
		t.Fatalf("got %d results and %d stored, want %d", len(results), len(all), n)
	}
	for i, m := range all {
		if want := fmt.Sprintf(`"data":%d,`, i); !strings.Contains(string(m.Body), want) ||
			results[i].ID != (proto.Cursor{Epoch: r.epochs().At(proto.PackOf(m.Number)), Seq: m.Number}).String() {
			t.Fatalf("place %d: got %s and %+v", i, m.Body, results[i])
		}
	}
}

// More messages than one request may hold are too large, not half done.
func TestPublishTooMany(t *testing.T) {
	r := start(t, startNATS(t))
	item := `{"channels":["` + strings.Join(numbered(100), `","`) + `"],"data":0},`
	p := r.post("/v1/messages", "["+strings.Repeat(item, maxMessages/100)+item[:len(item)-1]+"]").problem(t,
		proto.ProblemTooLarge)
	if want := "/" + strconv.Itoa(maxMessages/100); p.Pointer != want {
		t.Errorf("pointer: got %q, want %q", p.Pointer, want)
	}
	if n := len(stored(t, r.nc)); n != 0 {
		t.Errorf("stored: got %d messages, want none", n)
	}
}

// An ephemeral message is heard and not stored, and has no id.
func TestPublishEphemeral(t *testing.T) {
	r := start(t, startNATS(t))
	live, err := r.nc.SubscribeSync(proto.SubjectLivePacks)
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range [][]string{
		{"/v1/messages", `{"channel":"cursors","data":[1,2],"ephemeral":true,"id":"k","ttl":5}`},
		{"/v1/channels/cursors?ephemeral=true", `[1,2]`},
	} {
		res := r.post(call[0], call[1]).result(t, http.StatusAccepted)
		if want := (proto.Result{Status: proto.StatusSent, Channel: "cursors"}); res != want {
			t.Errorf("result: got %+v, want %+v", res, want)
		}
		msg, err := live.NextMsg(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Header.Get(nats.MsgIdHdr) != "" || msg.Header.Get("Nats-Sequence") != "" {
			t.Errorf("headers: got %v", msg.Header)
		}
		lines := proto.ReadPack(msg.Data)
		lines.Next()
		if len(lines.Source()) != 0 || lines.Expires() != 0 {
			t.Errorf("heard %s", msg.Data)
		}
		if m, err := proto.ParseMessage(lines.Message()); err != nil || string(m.Data) != "[1,2]" || m.ID != "" {
			t.Errorf("heard %s: %v", msg.Data, err)
		}
	}
	if n := len(stored(t, r.nc)); n != 0 {
		t.Errorf("stored: got %d messages, want none", n)
	}
}

// A message with a ttl goes when its time has come.
func TestPublishTTL(t *testing.T) {
	r := start(t, startNATS(t))
	r.post("/v1/messages", `[{"channel":"a","data":1,"ttl":1},{"channel":"a","data":2}]`).results(t, http.StatusOK)
	natstest.Eventually(t, 30*time.Second, "the first message gone", func() bool { return len(stored(t, r.nc)) == 1 })
	if _, m := r.last(); string(m.Data) != "2" {
		t.Errorf("left: got %s, want 2", m.Data)
	}
}

// numbered is n different channels.
func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("c%d", i)
	}
	return out
}
