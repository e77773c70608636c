package ingest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

// A header that counts must not be there twice: nobody could say which one does.
func TestHeadersTwice(t *testing.T) {
	r := start(t, startNATS(t))
	body := `{"channel":"broadcast","data":1,"message":1}`
	for _, twice := range []string{"X-API-KEY: " + envKey, "Idempotency-Key: k", "Content-Type: application/json"} {
		for _, path := range []string{"/v1/messages", "/v1/channels/broadcast", "/notify"} {
			if path == "/notify" && strings.HasPrefix(twice, "Content-Type") {
				continue // it does not matter there
			}
			more := twice + "\r\n" + twice + "\r\nContent-Length: 44\r\n"
			request := "POST " + path + " HTTP/1.1\r\nHost: h\r\n" + more + "\r\n"
			if !strings.HasPrefix(twice, "X-API-KEY") {
				request = "POST " + path + " HTTP/1.1\r\nHost: h\r\nX-API-KEY: " + envKey + "\r\n" + more + "\r\n"
			}
			in, _ := r.raw(t, request+body)
			if got := wantStatus(t, path+" "+twice, in, http.StatusBadRequest); !strings.Contains(got,
				"more than once") {
				t.Errorf("%s %s: got %s", path, twice, got)
			}
		}
	}
	r.nothingStored()
}

// 415 says what the path takes.
// What belongs into a message does not stand in the URL of many: it is refused,
// not dropped.
func TestMessagesTakeNoParameters(t *testing.T) {
	r := start(t, startNATS(t))
	for _, contentType := range []string{"application/json", "application/x-ndjson", ""} {
		for _, query := range []string{"ttl=60", "ephemeral=true", "channel=a", "a;b", "a=%", "token=x"} {
			p := r.post("/v1/messages?"+query, `{"channel":"a","data":1}`, "Content-Type", contentType).problem(t,
				proto.ProblemInvalidParameter)
			if !strings.HasSuffix(p.Detail, "this call takes none") {
				t.Errorf("%s as %q: got %q", query, contentType, p.Detail)
			}
		}
	}
	if a := r.get("a", ""); !strings.Contains(string(a.body), `"messages":[]`) {
		t.Errorf("got %s, want nothing stored", a.body)
	}
	if a := r.post("/v1/messages?&", `{"channel":"a","data":1}`); a.status != http.StatusOK {
		t.Errorf("no parameter: got %d %s", a.status, a.body)
	}
}

func TestAcceptPost(t *testing.T) {
	r := start(t, startNATS(t))
	for path, want := range map[string]string{"/v1/messages": acceptMessages, "/v1/channels/a": acceptChannel} {
		for _, header := range []string{"Content-Type: application/xml", "Content-Type: ;",
			"Content-Type: application/json; charset=latin1", "Content-Encoding: gzip"} {
			a := r.post(path, `1`, header)
			a.problem(t, proto.ProblemMediaType)
			if got := a.header.Get("Accept-Post"); got != want {
				t.Errorf("%s %s: Accept-Post %q, want %q", path, header, got, want)
			}
		}
	}
}

// Editors put a byte order mark in front; one is skipped, and only there.
func TestByteOrderMark(t *testing.T) {
	r := start(t, startNATS(t))
	const bom = proto.BOM
	r.post("/v1/messages", bom+`{"channel":"a","data":1}`).result(t, http.StatusOK)
	r.post("/v1/messages", bom+` [{"channel":"a","data":1}]`).results(t, http.StatusOK)
	r.post("/v1/channels/a", bom+`1`).result(t, http.StatusOK)
	notifyAnswer(t, "notify", r.post("/notify", bom+`{"message":1}`), http.StatusOK, notifySent)
	if _, done := r.post("/v1/messages", bom+"{\"channel\":\"a\",\"data\":1}\n"+bom+"{\"channel\":\"a\",\"data\":1}\n",
		ndjson).lines(t); done == nil || done.Stored != 1 || done.Failed != 1 {
		t.Errorf("stream: got end %+v, want the first line stored, the second refused", done)
	}
	r.post("/v1/channels/a", bom+"text", "Content-Type: text/plain").result(t, http.StatusOK)
	if _, m := r.last(); string(m.Data) != `"text"` {
		t.Errorf("text: got %q", m.Data)
	}
	r.post("/v1/messages", bom+bom+`{"channel":"a","data":1}`).problem(t, proto.ProblemInvalidJSON)
}

// Half a character is refused wherever it stands, and the problem points there.
func TestLoneSurrogates(t *testing.T) {
	r := start(t, startNATS(t))
	for body, pointer := range map[string]string{
		`{"channel":"a","data":1,"event":"\ud83d"}`: "/event", `{"channel":"\ud83d","data":1}`: "/channel",
		`{"channels":["a","\ud83d"],"data":1}`:   "/channels/1",
		`{"channel":"a","data":1,"id":"\udc00"}`: "/id", `{"channel":"a","data":{"x":["\udc00"]}}`: "/data/x/0",
	} {
		if p := r.post("/v1/messages", body).problem(t, proto.ProblemInvalidMessage); p.Pointer != pointer {
			t.Errorf("%s: got pointer %q, want %q", body, p.Pointer, pointer)
		}
		if p := r.post("/v1/messages", `[{"channel":"a","data":1},`+body+`]`).problem(t,
			proto.ProblemInvalidMessage); p.Pointer != "/1"+pointer {
			t.Errorf("%s in an array: got pointer %q, want /1%s", body, p.Pointer, pointer)
		}
		results, _ := r.post("/v1/messages", body, ndjson).lines(t)
		if len(results) != 1 || results[0].Problem == nil || results[0].Problem.Pointer != pointer {
			t.Errorf("%s as a line: got %+v", body, results)
		}
	}
	if p := r.post("/v1/channels/a", `{"x":"\ud83d"}`).problem(t, proto.ProblemInvalidMessage); p.Pointer != "/x" {
		t.Errorf("as the data: got pointer %q", p.Pointer)
	}
	if a := r.post("/notify", `{"message":"\ud83d"}`); a.status != http.StatusBadRequest ||
		!strings.Contains(a.body, "surrogate") {
		t.Errorf("notify: got %d %s", a.status, a.body)
	}
	r.nothingStored()
}

// Who writes a channel's slashes as they are is told how they are written.
func TestSlashInPath(t *testing.T) {
	r := start(t, startNATS(t))
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodHead} {
		for _, path := range []string{"/v1/channels/home/kitchen", "/v1/channels/home/kitchen/messages"} {
			a := r.do(method, path, nil)
			if a.status != http.StatusNotFound || method != http.MethodHead &&
				!strings.Contains(a.body, "/v1/channels/home%2Fkitchen") {
				t.Errorf("%s %s: got %d %s", method, path, a.status, a.body)
			}
		}
	}
	r.post("/v1/channels/home%2Fkitchen", `1`).result(t, http.StatusOK)
}

// HEAD answers as GET does, without the body.
func TestHead(t *testing.T) {
	r := start(t, startNATS(t))
	r.post("/v1/channels/a", `1`).result(t, http.StatusOK)
	for _, path := range []string{"/v1/channels/a/messages", "/v1/channels/a/messages?limit=x", "/openapi.json",
		"/healthz", "/readyz", "/v1/nothing"} {
		get, got := r.do(http.MethodGet, path, nil), r.do(http.MethodHead, path, nil)
		if got.status != get.status || got.body != "" ||
			got.header.Get("Content-Type") != get.header.Get("Content-Type") {
			t.Errorf("%s: got %d %s %q, want %d %s and no body", path, got.status, got.header.Get("Content-Type"),
				got.body, get.status, get.header.Get("Content-Type"))
		}
	}
	if a := r.do(http.MethodHead, "/v1/channels/a/messages", nil, "X-API-KEY:"); a.status != http.StatusUnauthorized {
		t.Errorf("without a key: got %d", a.status)
	}
}
