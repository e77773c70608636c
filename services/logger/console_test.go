package logger

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go"
)

// publishLarge stores n messages of some bytes.
func (w *world) publishLarge(n, bytes int) {
	w.Helper()
	_, err := natstest.Publish(w.nc, func(yield func(*nats.Msg) bool) {
		for i := range n {
			m := proto.Message{Channel: "large", Event: "message", Data: fmt.Appendf(nil, `"%d %s"`, i,
				strings.Repeat(`<\n`, bytes/3)), Sender: "shop", Time: proto.FormatTime(time.Now())}
			if !yield(natstest.NewMsg(&m, natstest.Headers{MsgID: fmt.Sprintf("large %d", i), Accepted: time.Now()},
				false)) {
				return
			}
		}
	})
	if err != nil {
		w.Fatal(err)
	}
}

// The console gets the answers of GET /v1/log, page by page, none of them larger
// than NATS carries.
func TestSearchForConsole(t *testing.T) {
	w := newWorld(t)
	w.publish(1, 300)
	w.publishLarge(12, 60<<10)
	r := w.startReady()
	r.eventually("the rows", func() bool { return r.count() == 312 })
	c, err := ask.NewClient(w.nats.Connect())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	search := func(query, cursor string) ask.HTTPAnswer {
		t.Helper()
		a, err := ask.Any[ask.HTTPAnswer](context.Background(), c, ask.Logger, ask.Search,
			ask.SearchQuestion{Query: query, Cursor: cursor}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	direct := func(query string) string {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, r.url+"/v1/log?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-KEY", envKey)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	// A small page is the same answer. (A large one ends where two seconds are over, here or there.)
	for _, query := range []string{"channel=orders.1&limit=5", "q=%22n%22&order=asc&limit=3",
		"channel=orders.%3E&sender=shop&limit=7", "sender=nobody"} {
		if a := search(query, ""); a.Status != http.StatusOK || string(a.Body) != direct(query) {
			t.Errorf("%s: got %d %s, want %s", query, a.Status, a.Body, direct(query))
		}
	}
	// A large one is cut, and the cursor leads on: every row once, in order.
	for _, order := range []string{"asc", "desc"} {
		var rows []entry
		pages := 0
		for cursor := ""; ; pages++ {
			query := url.Values{"order": {order}, "limit": {"1000"}}
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			var p page
			a := search(query.Encode(), "")
			if err := json.Unmarshal(a.Body, &p); err != nil || a.Status != http.StatusOK {
				t.Fatalf("got %d %.200s: %v", a.Status, a.Body, err)
			}
			rows = append(rows, p.Messages...)
			if cursor = p.Next; cursor == "" {
				break
			}
		}
		if len(rows) != 312 || pages < 2 {
			t.Errorf("%s: got %d rows in %d pages", order, len(rows), pages)
		}
		for i := 1; i < len(rows); i++ {
			if (rows[i-1].Seq < rows[i].Seq) != (order == "asc") {
				t.Fatalf("%s: %s comes before %s", order, rows[i-1].ID, rows[i].ID)
			}
		}
	}
	// An export in pages is the export.
	for _, format := range []string{formatCSV, formatNDJSON} {
		var text strings.Builder
		pages, cursor := 0, ""
		for ; pages == 0 || cursor != ""; pages++ {
			a := search("format="+format+"&order=asc", cursor)
			if a.Status != http.StatusOK {
				t.Fatalf("got %d %s", a.Status, a.Body)
			}
			text.Write(a.Body)
			cursor = a.Header[ask.HeaderNext]
		}
		if want := direct("format=" + format + "&order=asc"); text.String() != want || pages < 2 {
			t.Errorf("%s: got %d bytes in %d pages, want %d bytes", format, text.Len(), pages, len(want))
		}
	}
	// What is wrong is told as by the API.
	for query, want := range map[string]string{"limit=0": "limit: ", "nothing=1": "is not a parameter",
		"channel=a..b": "channel: ", "format=xml": "format: ", "cursor=x": "cursor: "} {
		if a := search(query, ""); a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), want) ||
			a.Header["Content-Type"] != "application/problem+json" {
			t.Errorf("%s: got %d %s", query, a.Status, a.Body)
		}
	}
	if a := search("format=csv", "x"); a.Status != http.StatusBadRequest {
		t.Errorf("a forged cursor: got %d %s", a.Status, a.Body)
	}
}

// A message that no answer can have is told to be too long; the others are there.
func TestSearchTooLong(t *testing.T) {
	w := newWorld(t)
	w.publish(1, 1)
	w.publishLarge(1, 400<<10)
	w.publish(2, 1)
	r := w.startReady()
	r.eventually("the rows", func() bool { return r.count() == 3 })
	for _, format := range []string{formatJSON, formatCSV, formatNDJSON} {
		text := ""
		for cursor, first := "", true; first || cursor != ""; first = false {
			a, err := r.search(context.Background(), ask.SearchQuestion{Query: "format=" + format, Cursor: cursor})
			if err != nil || a.Status != http.StatusOK {
				t.Fatalf("%s: got %d %s, %v", format, a.Status, a.Body, err)
			}
			text += string(a.Body)
			if cursor = a.Header[ask.HeaderNext]; format == formatJSON {
				var p page
				if err := json.Unmarshal(a.Body, &p); err != nil {
					t.Fatal(err)
				}
				cursor = p.Next
			}
		}
		if strings.Count(text, "bytes: too long for the console") != 1 ||
			strings.Count(text, `n\":`)+strings.Count(text, `n"":`) != 2 || len(text) > 2000 {
			t.Errorf("%s: got %.1000s", format, text)
		}
	}
}
