package httpx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/logtest"
)

var quiet = slog.New(slog.DiscardHandler)

// problem reads a problem document, and holds the answer's header to it.
func problem(t *testing.T, w *httptest.ResponseRecorder) proto.Problem {
	t.Helper()
	var p proto.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%v in %q", err, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if w.Code != p.Status {
		t.Errorf("status %d, in the document %d", w.Code, p.Status)
	}
	return p
}

func TestProblemMapping(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		kind   *proto.Problem // nil: only "internal" may be seen
		detail string
	}{
		{"a problem", proto.ProblemForbidden.With("no"), proto.ProblemForbidden, "no"},
		{"a wrapped problem", fmt.Errorf("publish: %w", proto.ProblemNotStored.With("later")),
			proto.ProblemNotStored, "later"},
		{"too large", fmt.Errorf("read: %w", &http.MaxBytesError{Limit: 10}), proto.ProblemTooLarge,
			"at most 10 bytes are allowed"},
		{"slow client", fmt.Errorf("read: %w", os.ErrDeadlineExceeded), proto.ProblemTimeout, ""},
		{"NATS took too long", fmt.Errorf("publish: %w", context.DeadlineExceeded), proto.ProblemUnavailable, ""},
		{"the service stops", fmt.Errorf("publish: %w", context.Canceled), proto.ProblemUnavailable, ""},
		{"cut off", io.ErrUnexpectedEOF, proto.ProblemInvalidJSON, "the body ended early"},
		{"unknown", errors.New("disk /secret/path is full"), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Problem(c.err)
			if c.kind == nil {
				if p != nil {
					t.Errorf("got %+v, want nil", p)
				}
				return
			}
			if p == nil || p.Type != c.kind.Type || p.Detail != c.detail {
				t.Errorf("got %+v, want %s with detail %q", p, c.kind.Type, c.detail)
			}
		})
	}
}

func TestWriteProblem(t *testing.T) {
	for _, p := range []*proto.Problem{proto.ProblemUnauthorized, proto.ProblemNotFound, proto.ProblemUpgrade,
		proto.ProblemTooManyRequests, proto.ProblemInternal, proto.ProblemUnavailable} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		WriteProblem(w, r, quiet, p.With("<why>"))
		if got := problem(t, w); got.Type != p.Type || got.Title != p.Title || got.Detail != "<why>" {
			t.Errorf("%s: got %+v", p.Type, got)
		}
		want := map[int]map[string]string{
			401: {"WWW-Authenticate": `Bearer realm="herald"`},
			426: {"Upgrade": "websocket", "Connection": "Upgrade"},
			429: {"Retry-After": "1"},
			503: {"Retry-After": "1"},
		}[p.Status]
		for _, h := range []string{"WWW-Authenticate", "Upgrade", "Connection", "Retry-After"} {
			if got := w.Header().Get(h); got != want[h] {
				t.Errorf("%s: %s is %q, want %q", p.Type, h, got, want[h])
			}
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached", p.Type)
		}
		if p.Detail != "" || p.Request != "" {
			t.Errorf("%s was changed for all", p.Type)
		}
	}
}

func TestWriteProblemKeepsRetryAfter(t *testing.T) {
	for want, d := range map[string]time.Duration{"1": 0, "2": 1001 * time.Millisecond, "60": time.Minute} {
		w := httptest.NewRecorder()
		RetryAfter(w, d)
		WriteProblem(w, httptest.NewRequest(http.MethodGet, "/", nil), quiet, proto.ProblemTooManyRequests)
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}

func TestNoUpgradeHeaderOverHTTP2(t *testing.T) {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/ws", nil)
	r.ProtoMajor, r.ProtoMinor = 2, 0
	WriteProblem(w, r, quiet, proto.ProblemUpgrade)
	if len(w.Header()["Upgrade"])+len(w.Header()["Connection"]) != 0 {
		t.Errorf("got %v", w.Header())
	}
}

// The text of an unknown error is for the log, under the id that the client has.
func TestInternalErrorsStayInside(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	r := NewRouter(log)
	r.Get("/x", func(w http.ResponseWriter, req *http.Request) {
		WriteProblem(w, req, log, errors.New("password of the database"))
	})
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x?token=abc", nil))
	p := problem(t, w)
	if p.Type != proto.ProblemInternal.Type || strings.Contains(w.Body.String(), "password") {
		t.Errorf("got %s", w.Body)
	}
	if p.Request == "" || p.Request != w.Header().Get("X-Request-Id") ||
		!strings.Contains(out.String(), "request="+p.Request) {
		t.Errorf("request %q is not in the log: %s", p.Request, out.String())
	}
	if !strings.Contains(out.String(), "password of the database") || strings.Contains(out.String(), "abc") {
		t.Errorf("log: %s", out.String())
	}
}

func TestReadBody(t *testing.T) {
	for _, c := range []struct {
		name   string
		body   io.Reader
		length int64
		want   string
		kind   *proto.Problem
		detail string
	}{
		{name: "whole", body: strings.NewReader("12345"), length: 5, want: "12345"},
		{name: "empty", body: strings.NewReader(""), length: 0},
		{name: "byte order mark", body: strings.NewReader(proto.BOM + "12345"), length: 8, want: "12345"},
		{name: "byte order mark, byte by byte", body: iotest.OneByteReader(strings.NewReader(proto.BOM + "12345")),
			length: -1, want: "12345"},
		{name: "only one of two marks", body: strings.NewReader(proto.BOM + proto.BOM), length: -1, want: proto.BOM},
		{name: "half a mark", body: strings.NewReader(proto.BOM[:2]), length: -1, want: proto.BOM[:2]},
		{name: "as large as allowed", body: strings.NewReader("1234567890"), length: 10, want: "1234567890"},
		{name: "as large as allowed, length unknown", body: strings.NewReader("1234567890"), length: -1,
			want: "1234567890"},
		{name: "announced too large", body: iotest.ErrReader(errors.New("it was read")), length: 11,
			kind: proto.ProblemTooLarge, detail: "the body has 11 bytes, at most 10 are allowed"},
		{name: "turns out too large", body: strings.NewReader("12345678901"), length: -1, kind: proto.ProblemTooLarge,
			detail: "at most 10 bytes are allowed"},
		{name: "slow", body: iotest.ErrReader(os.ErrDeadlineExceeded), length: -1, kind: proto.ProblemTimeout},
		{name: "cut off", body: iotest.ErrReader(io.ErrUnexpectedEOF), length: 5, kind: proto.ProblemInvalidJSON,
			detail: "the body ended early"},
		{name: "broken chunks", body: iotest.ErrReader(errors.New("malformed chunked encoding")), length: -1,
			kind: proto.ProblemInvalidJSON, detail: "the body could not be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", c.body)
			r.ContentLength = c.length
			got, err := ReadBody(httptest.NewRecorder(), r, 10)
			if c.kind == nil {
				if err != nil || string(got) != c.want {
					t.Errorf("got %q, %v, want %q", got, err, c.want)
				}
				return
			}
			if p := Problem(err); p == nil || p.Type != c.kind.Type || p.Detail != c.detail {
				t.Errorf("got %+v for %v, want %s with %q", p, err, c.kind.Type, c.detail)
			}
		})
	}
}

func TestWriteJSON(t *testing.T) {
	w := httptest.NewRecorder()
	WriteJSON(w, http.StatusAccepted, map[string]int{"n": 1})
	if w.Code != 202 || w.Body.String() != "{\"n\":1}\n" || w.Header().Get("Content-Type") != "application/json" ||
		w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %q %v", w.Code, w.Body, w.Header())
	}
}

func TestRouter(t *testing.T) {
	r := NewRouter(quiet)
	r.Get("/both", func(w http.ResponseWriter, r *http.Request) { WriteJSON(w, 200, RequestID(r)) })
	r.Post("/both", func(http.ResponseWriter, *http.Request) {})
	r.Route("/v1", func(r chi.Router) {
		r.Post("/channels/{channel}", func(http.ResponseWriter, *http.Request) {})
	})
	r.Get("/panic", func(http.ResponseWriter, *http.Request) { panic("what a stranger must not see") })
	r.Get("/unmarshalable", func(w http.ResponseWriter, _ *http.Request) { WriteJSON(w, 200, func() {}) })
	for _, c := range []struct {
		method, path string
		code         int
		kind         *proto.Problem
		allow        string
	}{
		{"GET", "/both", 200, nil, ""},
		{"GET", "/nothing", 404, proto.ProblemNotFound, ""},
		{"GET", "/v1/nothing", 404, proto.ProblemNotFound, ""},
		{"DELETE", "/both", 405, proto.ProblemMethod, "GET, HEAD, POST"},
		{"GET", "/v1/channels/a.b", 405, proto.ProblemMethod, "POST"},
		{"GET", "/v1/channels/a%2Fb", 405, proto.ProblemMethod, "POST"},
		{"BREW", "/both", 405, proto.ProblemMethod, "GET, HEAD, POST"},
		{"HEAD", "/both", 200, nil, ""},
		{"HEAD", "/nothing", 404, proto.ProblemNotFound, ""},
		{"HEAD", "/v1/channels/a.b", 405, proto.ProblemMethod, "POST"},
		{"POST", "/v1/channels/home/kitchen", 404, proto.ProblemNotFound, ""},
		{"GET", "/panic", 500, proto.ProblemInternal, ""},
		{"GET", "/unmarshalable", 500, proto.ProblemInternal, ""},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			if w.Code != c.code || strings.Contains(w.Body.String(), "stranger") {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			if c.kind != nil {
				if p := problem(t, w); p.Type != c.kind.Type || p.Request != w.Header().Get("X-Request-Id") {
					t.Errorf("got %+v", p)
				}
			}
			if got := strings.Join(w.Header().Values("Allow"), ", "); got != c.allow {
				t.Errorf("Allow: got %q, want %q", got, c.allow)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" ||
				w.Header().Get("Referrer-Policy") != "no-referrer" || len(w.Header().Get("X-Request-Id")) != 16 {
				t.Errorf("got %v", w.Header())
			}
		})
	}
}

// A slash in a channel's name begins another segment of the path.
func TestSlashInAChannel(t *testing.T) {
	r := NewRouter(quiet)
	r.Post("/v1/channels/{channel}", func(http.ResponseWriter, *http.Request) {})
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/channels/home/kitchen", nil))
	if p := problem(t, w); p.Type != proto.ProblemNotFound.Type || !strings.Contains(p.Detail, "%2F") {
		t.Errorf("got %+v", p)
	}
	w = httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/channel/x", nil))
	if p := problem(t, w); strings.Contains(p.Detail, "%2F") {
		t.Errorf("got %+v", p)
	}
}

func TestQuery(t *testing.T) {
	for query, want := range map[string]string{
		"": "", "a=1&b=2&b=3": "", "b=": "", "a=%3B": "", "&&": "",
		"a=1;b=2": "semicolon", "a=%zz": "%25", "a=%": "%25", "c=1": `"c" is not a parameter`,
		"A=1": `"A" is not a parameter`, "a=1&a=1": "a is given 2 times",
		"token=hunter2": `"token" is not a parameter`, "a=hunter2%zz": "%25", "a=hunter2&a=x": "given 2 times",
	} {
		r := &http.Request{URL: &url.URL{RawQuery: query}}
		_, err := Query(r, []string{"b"}, "a")
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", query, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) ||
			!strings.HasSuffix(err.Error(), "known parameters are b, a") || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%q: got %v, want %q", query, err, want)
		}
	}
}

func TestQueryOfNone(t *testing.T) {
	if _, err := Query(&http.Request{URL: &url.URL{RawQuery: "&"}}, nil); err != nil {
		t.Errorf("got %v", err)
	}
	if _, err := Query(&http.Request{URL: &url.URL{RawQuery: "ttl=1"}}, nil); err == nil ||
		err.Error() != `"ttl" is not a parameter; this call takes none` {
		t.Errorf("got %v", err)
	}
}

func TestRequestIDsAreOurs(t *testing.T) {
	r := NewRouter(quiet)
	r.Get("/", func(http.ResponseWriter, *http.Request) {})
	seen := map[string]bool{}
	for range 100 {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set("X-Request-Id", "forged\nline")
		r.ServeHTTP(w, req)
		id := w.Header().Get("X-Request-Id")
		if len(id) != 16 || seen[id] {
			t.Fatalf("got %q", id)
		}
		seen[id] = true
	}
	if RequestID(httptest.NewRequest(http.MethodGet, "/", nil)) != "" {
		t.Error("an id without the middleware")
	}
}

// A handler that fails in the middle of its answer must not end it as if it
// were whole.
func TestPanicInTheMiddleCutsTheAnswerOff(t *testing.T) {
	r := NewRouter(quiet)
	r.Get("/export", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first line\n")
		w.(http.Flusher).Flush()
		panic("halfway")
	})
	r.Get("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	r.Get("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack() // the gateway does so
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		_ = c.Close()
	})
	s := httptest.NewServer(r)
	defer s.Close()
	defer http.DefaultClient.CloseIdleConnections()
	res, err := http.Get(s.URL + "/export")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if string(b) != "first line\n" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v; want the first line, cut off", b, err)
	}
	if res, err := http.Get(s.URL + "/abort"); err == nil {
		_ = res.Body.Close()
		t.Errorf("aborted handler answered %d", res.StatusCode)
	}
	res, err = http.Get(s.URL + "/hijack")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 204 {
		t.Errorf("hijacked: got %d", res.StatusCode)
	}
}

// What strangers do to bodies on a real socket ends as their fault, not as ours.
func TestBrokenBodiesOnTheWire(t *testing.T) {
	var out logtest.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	r := NewRouter(log)
	r.Post("/", func(w http.ResponseWriter, r *http.Request) {
		if _, err := ReadBody(w, r, 100); err != nil {
			WriteProblem(w, r, log, err)
		}
	})
	s, hasty := startServer(t, ServerConfig{}, r), startServer(t, ServerConfig{ReadTimeout: 300 * time.Millisecond}, r)
	for _, c := range []struct{ name, raw, want string }{
		{"bad chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
		{"announced too large", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n", "413"},
		{"chunked too large", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n" +
			strings.Repeat("x", 128) + "\r\n", "413"},
		{"drips", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc", "408"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s
			if c.name == "drips" {
				s = hasty // a busy machine would cut off the others, too
			}
			if got := talk(t, s, c.raw); !strings.HasPrefix(got, "HTTP/1.1 "+c.want) {
				t.Errorf("got %.300q, want %s", got, c.want)
			}
		})
	}
	if out.String() != "" {
		t.Errorf("the log has: %s", out.String())
	}
}
