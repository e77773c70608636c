package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/services/admin/users"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
)

// answering answers one question as a service would.
func (c *console) answering(service, what string, f ask.Answer) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	nc := c.nats.Connect()
	go func() { // ends with the test
		done <- ask.Serve(ctx, ask.Spec{NATS: nc, Log: natstest.Log(c.t), Service: service, Instance: "one",
			Version: "v1.2.3", Once: map[string]ask.Answer{what: f}})
	}()
	c.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	natstest.Eventually(c.t, 30*time.Second, service+" to be there", func() bool {
		_, err := ask.Any[ask.HTTPAnswer](ctx, c.ask, service, what, nil, time.Minute)
		return err == nil
	})
}

// Without the service that does it, nothing is done and the answer says so.
func TestWithoutServices(t *testing.T) {
	c := start(t)
	b := c.as(users.Operator)
	if a := b.want(http.StatusServiceUnavailable, "POST", "api/publish", `{"channel":"a","data":1}`); !strings.Contains(
		a.body, "no ingest is there; nothing was published") {
		t.Errorf("got %s", a.body)
	}
	for _, query := range []string{"", "?format=csv"} {
		if a := b.want(http.StatusServiceUnavailable, "GET", "api/log"+query, nil); !strings.Contains(a.body,
			"no logger is there") {
			t.Errorf("got %s", a.body)
		}
	}
	b.header.Set("Content-Type", "application/x-ndjson")
	b.want(http.StatusUnsupportedMediaType, "POST", "api/publish", `{"channel":"a","data":1}`)
	b.header.Del("Content-Type")
	b.want(http.StatusRequestEntityTooLarge, "POST", "api/publish", `"`+strings.Repeat("x", ask.MaxPublish)+`"`)
}

// An ingest gets the body as it was sent, with the user as its sender; who publishes
// is in the audit, what is not.
func TestPublish(t *testing.T) {
	c := start(t)
	got := make(chan ask.PublishQuestion, 16)
	c.answering(ask.Ingest, ask.Publish,
		ask.Handle(func(_ context.Context, q ask.PublishQuestion) (ask.HTTPAnswer, error) {
			got <- q
			if strings.Contains(string(q.Body), "refused") {
				return ask.HTTPAnswer{Status: 429, Header: map[string]string{"Content-Type": "application/problem+json",
					"Retry-After": "7"}, Body: []byte(`{"title":"no"}`)}, nil
			}
			if strings.Contains(string(q.Body), "broken") {
				return ask.HTTPAnswer{}, errors.New("broken")
			}
			return ask.HTTPAnswer{Status: 200, Header: map[string]string{"Content-Type": "application/json"},
				Body: []byte(`[{"id":"e-1","status":"stored"},{"id":"e-2","status":"stored"}]`)}, nil
		}))
	for len(got) > 0 {
		<-got
	}
	b := c.as(users.Operator)
	body := " [{\"channel\":\"a\",\"data\":1.50},\n{\"channel\":\"b\",\"data\":\"geheim\"}]"
	if a := b.want(http.StatusOK, "POST", "api/publish", body); !strings.Contains(a.body, "e-2") {
		t.Errorf("got %s", a.body)
	}
	if q := <-got; string(q.Body) != body || !strings.HasPrefix(q.Sender, "console:operator-") ||
		q.Address != "127.0.0.1" {
		t.Errorf("got %q from %s at %s", q.Body, q.Sender, q.Address)
	}
	if a := b.want(http.StatusTooManyRequests, "POST", "api/publish",
		`"refused"`); a.header.Get("Retry-After") != "7" ||
		a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %v", a.header)
	}
	if a := b.want(http.StatusServiceUnavailable, "POST", "api/publish", `"broken"`); !strings.Contains(a.body,
		"not known whether") {
		t.Errorf("got %s", a.body)
	}
	rows := c.login(c.user, c.password).want(http.StatusOK, "GET", "api/audit?action=publish", nil).body
	if strings.Count(rows, `"action":"publish"`) != 2 || strings.Count(rows, `"outcome":"failed"`) != 1 ||
		!strings.Contains(rows, `"target":"a, b"`) ||
		!strings.Contains(rows, `"e-1","e-2"`) || strings.Contains(rows, "geheim") {
		t.Errorf("audit: got %s", rows)
	}
}

// An export is all pages; one that breaks off is cut, so that nobody takes it for
// whole, and it ends for who is removed.
func TestExport(t *testing.T) {
	c := start(t)
	var broken atomic.Bool
	var queries []url.Values
	c.answering(ask.Logger, ask.Search,
		ask.Handle(func(_ context.Context, q ask.SearchQuestion) (ask.HTTPAnswer, error) {
			v, err := url.ParseQuery(q.Query)
			if err != nil {
				return ask.HTTPAnswer{}, err
			}
			queries = append(queries, v)
			a := ask.HTTPAnswer{Status: 200, Header: map[string]string{"Content-Type": "text/csv; charset=utf-8"},
				Body: []byte("page" + q.Cursor + "\n")}
			switch {
			case v.Get("format") == "xml":
				return ask.HTTPAnswer{Status: 400,
					Header: map[string]string{"Content-Type": "application/problem+json"}, Body: []byte(`{}`)}, nil
			case q.Cursor == "":
				a.Header[ask.HeaderNext] = "2"
			case q.Cursor == "2" && broken.Load():
				return a, errors.New("broken")
			case q.Cursor == "2":
				a.Header[ask.HeaderNext] = "3"
			}
			return a, nil
		}))
	b := c.as(users.Viewer)
	queries = nil
	a := b.want(http.StatusOK, "GET", "api/log?format=csv&q=x", nil)
	if a.body != "page\npage2\npage3\n" ||
		a.header.Get("Content-Disposition") != `attachment; filename="herald-log.csv"` ||
		a.header.Get("Content-Type") != "text/csv; charset=utf-8" || a.header.Get(ask.HeaderNext) != "" {
		t.Errorf("got %q %v", a.body, a.header)
	}
	if len(queries) != 3 || queries[1].Get("q") != "x" || queries[1].Get("before") == "" || queries[0].Has("before") {
		t.Errorf("asked %v", queries)
	}
	broken.Store(true)
	req, err := http.NewRequest(http.MethodGet, b.url+"api/log?format=csv", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(b.cookies[0])
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		var text []byte
		text, err = io.ReadAll(resp.Body)
		if err == nil {
			t.Errorf("it looks whole: %q", text)
		}
	}
	b.want(http.StatusBadRequest, "GET", "api/log?format=xml", nil)
}
