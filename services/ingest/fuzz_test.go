package ingest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/ingest/internal/publish"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
)

// target is a whole ingest, called without a socket: what a stranger may send
// is the body, the path and a few headers.
type target struct {
	*rig
	handler http.Handler
}

func fuzzTarget(f *testing.F) *target {
	f.Helper()
	r := start(f, startNATS(f), func(c *Config, _ *Deps) { c.Listen = "" })
	router := httpx.NewRouter(natstest.Log(f))
	r.Mount(router)
	return &target{r, router}
}

// call posts a body. The answer must be one that openapi.yaml has, and never
// our own fault.
func (g *target) call(t *testing.T, path, contentType string, body []byte) answered {
	t.Helper()
	return g.send(t, http.MethodPost, path, contentType, body)
}

func (g *target) send(t *testing.T, method, path, contentType string, body []byte) answered {
	t.Helper()
	u, err := url.ParseRequestURI(path)
	if err != nil {
		t.Skip() // net/http answers 400 before any handler
	}
	req := httptest.NewRequest(method, "/", bytes.NewReader(body))
	req.URL = u
	req.Header = http.Header{"X-Api-Key": {envKey}}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, req)
	a := answered{w.Code, w.Result().Header, w.Body.String()}
	if a.status >= 500 {
		t.Fatalf("%s %q: got %d %s", path, body, a.status, a.body)
	}
	if a.status == http.StatusNotFound {
		return a
	}
	conforms(t)(method, u.EscapedPath(), a)
	return a
}

// holds checks that a result is of a message that stands in the stream, on
// the channel that it names, as subscribers may get it.
func (g *target) holds(t *testing.T, res proto.Result) {
	t.Helper()
	if res.Status == proto.StatusSent {
		return
	}
	id, err := proto.ParseCursor(res.ID)
	if err != nil {
		t.Fatalf("result %+v: %v", res, err)
	}
	page, err := natsx.NewReader(g.nc, nil).Read(t.Context(), natsx.Range{Names: []string{res.Channel},
		Since: id.Seq - 1, UpTo: id.Seq, Messages: 1})
	if err != nil || len(page.Messages) != 1 || page.Messages[0].Number != id.Seq {
		t.Fatalf("result %+v: got %+v, %v", res, page, err)
	}
	body := page.Messages[0].Body
	m, err := proto.ParseMessage(body)
	if err != nil || m.Channel != res.Channel || m.Sender != "env" || bytes.ContainsAny(body, "\r\n") ||
		!utf8.Valid(body) {
		t.Fatalf("stored %q: %v", body, err)
	}
	if err := theSpec(t).validate("asyncapi.yaml#/components/schemas/Body", body); err != nil {
		t.Fatalf("stored %q: %v", body, err)
	}
}

// unchanged fails if something was stored by a request that was refused.
func (g *target) unchanged(t *testing.T, before uint64) {
	t.Helper()
	if now := g.lastSeq(t); now != before {
		t.Fatalf("the stream went from %d to %d, though the request was refused", before, now)
	}
}

func (g *target) lastSeq(t *testing.T) uint64 {
	t.Helper()
	state, err := natsx.NewReader(g.nc, nil).State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state.Last
}

func FuzzMessages(f *testing.F) {
	for _, body := range []string{
		`{"channel":"orders.eu","data":{"n":1},"event":"created","id":"order-17","ttl":3600}`,
		`[{"channel":"a","data":1},{"channels":["b","c"],"data":"x","ephemeral":true}]`,
		`[{"channel":"a","data":1},{"channel":"a..b","data":1}]`, `[[[[`, `{"channel":"a","data":{"k":1,"\u006b":2}}`,
		"[]", "null", "\xff", "",
		"{\n\"channel\": \"a\",\n\"data\": [\n1 ]}", `{"channel":"a","data":"\u2028"}`, `{"channel":"a","data":1}{}`,
	} {
		f.Add([]byte(body))
	}
	g := fuzzTarget(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		before := g.lastSeq(t)
		a := g.call(t, "/v1/messages", "application/json", body)
		switch {
		case a.status >= 400:
			g.unchanged(t, before)
		case strings.HasPrefix(a.body, "["):
			for _, res := range a.results(t, http.StatusOK) {
				g.holds(t, res)
			}
		default:
			g.holds(t, a.result(t, a.status))
		}
	})
}

func FuzzStream(f *testing.F) {
	for _, body := range []string{
		"{\"channel\":\"a\",\"data\":1}\n{\"channel\":\"a\"}\n\n{\"channels\":[\"a\",\"b\"],\"data\":2,\"id\":\"k\"}",
		"\n\r\n", "", "{}\n[]\nnull\n\xff\n\x00",
		strings.Repeat("{", 200<<10) + "\n1",
	} {
		f.Add([]byte(body))
	}
	g := fuzzTarget(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		a := g.call(t, "/v1/messages", "application/x-ndjson", body)
		results, done := a.lines(t)
		if done == nil || done.Stored+done.Failed != len(results) {
			t.Fatalf("%q: got end %+v after %d results", body, done, len(results))
		}
		line := 0
		for _, res := range results {
			if res.Line < line || res.Line > bytes.Count(body, []byte("\n"))+1 {
				t.Fatalf("%q: line %d after line %d", body, res.Line, line)
			}
			line = res.Line
			if res.Status != proto.StatusInvalid {
				g.holds(t, res)
			}
		}
	})
}

func FuzzChannel(f *testing.F) {
	f.Add("orders.eu", "event=a&ttl=60", "application/json", []byte(`{"n":1}`))
	f.Add("user%2F1", "ephemeral=true", "text/plain", []byte("disk full"))
	f.Add("a%00", "ttl=-1", "", []byte(`1`))
	f.Add("%zz", ";", "text/plain; charset=x", []byte("\xff"))
	f.Add("a%2Fb%2541", "event=%C3%BC", "x/y+json", []byte(" [\n] "))
	f.Add("..%2f..", "&&=", "application/x-www-form-urlencoded", []byte("\r\n\u2028"))
	g := fuzzTarget(f)
	f.Fuzz(func(t *testing.T, channel, query, contentType string, body []byte) {
		if strings.Contains(channel, "?") {
			t.Skip() // the query begins there
		}
		before := g.lastSeq(t)
		a := g.call(t, "/v1/channels/"+channel+"?"+query, contentType, body)
		if a.status >= 400 {
			g.unchanged(t, before)
			return
		}
		res := a.result(t, a.status)
		if want, err := url.PathUnescape(channel); err != nil || res.Channel != want {
			t.Fatalf("channel %q: got %q, want %q", channel, res.Channel, want)
		}
		g.holds(t, res)
	})
}

// A page holds what the key may read, in order and no more than asked for, and
// its next is where the following one begins.
func FuzzHistory(f *testing.F) {
	f.Add("orders.eu", "since=all&limit=2")
	f.Add("orders.%3E", "since=last")
	f.Add("*.eu", "limit=1001")
	f.Add("%3E", "since=%d-1&limit=01")
	f.Add("", "since=a-18446744073709551616")
	f.Add("orders.*", "since=x-1;limit=1")
	g := fuzzTarget(f)
	var ids []string
	for _, channel := range []string{"orders.eu", "a", "orders.us", "orders.eu", "orders.eu.paid"} {
		o := &publish.Origin{Sender: "env"}
		p := &proto.Publication{Channel: channel, Event: "message", Data: []byte("1")}
		res, err := g.publisher.Settle(f.Context(), g.publisher.Send(o, p, channel, publish.Whole))
		if err != nil {
			f.Fatal(err)
		}
		ids = append(ids, res.ID)
	}
	f.Add("orders.eu", "since="+ids[2])
	f.Add("a", "limit=1&since="+ids[4])
	f.Fuzz(func(t *testing.T, channel, query string) {
		if strings.Contains(channel, "?") {
			t.Skip() // the query begins there
		}
		a := g.send(t, http.MethodGet, "/v1/channels/"+channel+"/messages?"+query, "", nil)
		if a.status != http.StatusOK {
			return
		}
		var page historyAnswer
		a.decode(t, http.StatusOK, &page)
		pattern, err := url.PathUnescape(channel)
		if err != nil || proto.CheckPattern(pattern) != nil || len(page.Messages) > maxLimit {
			t.Fatalf("%q: got %d messages", channel, len(page.Messages))
		}
		at := "" // ids of this stream sort like text: there are nine at most
		for _, m := range page.Messages {
			if !proto.Match(pattern, m.Channel) || m.ID <= at {
				t.Fatalf("%q %q: %s of %s after %s", channel, query, m.ID, m.Channel, at)
			}
			at = m.ID
		}
		if page.Next < at {
			t.Fatalf("%q %q: next is %s, the last message %s", channel, query, page.Next, at)
		}
		if a := g.send(t, http.MethodGet, "/v1/channels/a/messages?since="+page.Next,
			"", nil); a.status != http.StatusOK {
			t.Fatalf("%q %q: next %s: got %d %s", channel, query, page.Next, a.status, a.body)
		}
	})
}

func FuzzNotify(f *testing.F) {
	for _, body := range []string{`{"message":"x"}`, `{"message":0e1}`, `{"message":[ ]}`,
		`{"x":{"message":1},"message":{"a":[]}}`, `{"message":1,"message":2}`,
		`[]`, ``, "\xff", `{"message":-0.0e-1}`} {
		f.Add([]byte(body))
	}
	g := fuzzTarget(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		before := g.lastSeq(t)
		a := g.call(t, "/notify", "application/json", body)
		if a.status >= 400 {
			g.unchanged(t, before)
			return
		}
		if got := g.lastSeq(t); got != before+1 {
			t.Fatalf("%q: got %s, and the stream went from %d to %d", body, a.body, before, got)
		}
	})
}
