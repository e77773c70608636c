package ingest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/keystore"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// historyAnswer is a page as a client decodes it.
type historyAnswer struct {
	Messages []proto.Message `json:"messages"`
	Next     string          `json:"next"`
	More     bool            `json:"more"`
}

func (h historyAnswer) ids() []string {
	ids := []string{}
	for _, m := range h.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// get asks for a page of a channel, as it stands in the path; query is
// what follows the question mark.
func (r *rig) get(channel, query string, headers ...string) answered {
	r.Helper()
	return r.do(http.MethodGet, "/v1/channels/"+channel+"/messages?"+query, nil, headers...)
}

// page is get where it succeeds.
func (r *rig) page(channel, query string, headers ...string) historyAnswer {
	r.Helper()
	a := r.get(channel, query, headers...)
	var h historyAnswer
	a.decode(r, http.StatusOK, &h)
	if got := a.header.Get("Cache-Control"); got != "no-store" || a.header.Get("ETag") != "" {
		r.Errorf("Cache-Control: got %q, ETag %q, want no-store and none", got, a.header.Get("ETag"))
	}
	if h.Messages == nil {
		r.Errorf("messages: got null in %s, want an array", a.body)
	}
	return h
}

// fill publishes one message to each channel, in order, and returns their ids.
func (r *rig) fill(channels ...string) []string {
	r.Helper()
	var ids []string
	for i, channel := range channels {
		ids = append(ids, r.post("/v1/messages", fmt.Sprintf(`{"channel":%q,"data":{"n":%d}}`, channel, i)).result(r,
			http.StatusOK).ID)
	}
	return ids
}

// behindPackOf is the id of the place behind the pack of a message.
func behindPackOf(id string) string {
	at, _ := proto.ParseCursor(id)
	return proto.Cursor{Epoch: at.Epoch, Seq: proto.EndOf(proto.PackOf(at.Seq))}.String()
}

// wantIDs compares the ids of messages.
func wantIDs(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// Pages of any size, put together, are the channel or pattern, in order, each
// message once; the last one is complete up to the stream's newest message.
func TestHistoryPages(t *testing.T) {
	r := start(t, startNATS(t))
	var channels []string
	for i := range 30 {
		channels = append(channels, []string{"orders.eu", "orders.us", "a", "orders.eu.paid", "user/1"}[i%5])
	}
	ids := r.fill(channels...)
	for path, pattern := range map[string]string{
		"a": "a", "orders.eu": "orders.eu", "user%2F1": "user/1", "nothing": "nothing", "orders.*": "orders.*",
		"orders.%2A": "orders.*",
		"orders.%3E": "orders.>", "*.eu": "*.eu", "%3E": ">",
	} {
		var want []string
		for i, channel := range channels {
			if proto.Match(pattern, channel) {
				want = append(want, ids[i])
			}
		}
		for _, limit := range []int{1, 2, 3, 5, 6, 7, 29, 30, 31, 1000} {
			var got []string
			for since, pages := proto.SinceAll, 1; ; pages++ {
				page := r.page(path, fmt.Sprintf("since=%s&limit=%d", since, limit))
				got = append(got, page.ids()...)
				since = page.Next
				what := fmt.Sprintf("%s, page %d of %d messages", path, pages, limit)
				if page.More && len(page.Messages) != limit || len(page.Messages) > limit || pages > len(ids) {
					t.Fatalf("%s: got %d messages, more %v", what, len(page.Messages), page.More)
				}
				if want := page.Messages; page.More && page.Next != want[limit-1].ID &&
					page.Next != behindPackOf(want[limit-1].ID) {
					t.Errorf("%s: next: got %s, want %s", what, page.Next, want[limit-1].ID)
				}
				if !page.More {
					if page.Next != behindPackOf(ids[len(ids)-1]) {
						t.Errorf("%s: next: got %s, want that of the stream's newest message, %s", what, page.Next,
							behindPackOf(ids[len(ids)-1]))
					}
					break
				}
			}
			wantIDs(t, fmt.Sprintf("%s by %d", path, limit), got, want)
		}
	}
	first := r.page("a", "limit=1").Messages[0]
	if first.Channel != "a" || string(first.Data) != `{"n":2}` || first.Sender != "env" || first.Event != "message" ||
		first.ID != ids[2] || first.Time == "" {
		t.Errorf("message: got %+v", first)
	}
	for i, id := range ids { // from each place in the stream on
		wantIDs(t, "since "+id, r.page("%3E", "since="+id).ids(), ids[i+1:])
	}
}

// A poller that goes on with next gets each message once while others publish,
// and so does one that follows a pattern.
func TestHistoryWhilePublishing(t *testing.T) {
	r := start(t, startNATS(t))
	const publishers, each = 3, 60
	var wg sync.WaitGroup
	published := make([][]string, publishers)
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				published[p] = append(published[p], r.post(fmt.Sprintf("/v1/channels/c.%d", p), fmt.Sprint(i)).result(t,
					http.StatusOK).ID)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	paths := []string{"c.0", "c.1", "c.2", "c.*"}
	polled := make([][]string, len(paths))
	var pollers sync.WaitGroup
	for i, path := range paths {
		pollers.Go(func() {
			for since := proto.SinceAll; ; {
				over := false
				select {
				case <-done:
					over = true
				default:
				}
				page := r.page(path, "limit=7&since="+since)
				polled[i] = append(polled[i], page.ids()...)
				if since = page.Next; over && !page.More {
					return
				}
			}
		})
	}
	pollers.Wait()
	var all []string
	for p := range publishers {
		wantIDs(t, paths[p], polled[p], published[p])
		all = append(all, published[p]...)
	}
	if got := polled[publishers]; len(got) != len(all) || !slices.IsSortedFunc(got, byID) {
		t.Errorf("c.*: got %d messages, sorted %v, want %d in order", len(got), slices.IsSortedFunc(got, byID),
			len(all))
	}
	slices.SortFunc(all, byID)
	wantIDs(t, "c.*", polled[publishers], all)
}

// byID orders ids of one epoch.
func byID(a, b string) int {
	x, _ := proto.ParseCursor(a)
	y, _ := proto.ParseCursor(b)
	return int(x.Seq) - int(y.Seq)
}

// An empty page says where the next one begins, also before the first message.
func TestHistoryEmpty(t *testing.T) {
	r := start(t, startNATS(t))
	epoch := r.publisher.Epoch()
	nothing := proto.Cursor{Epoch: epoch, Seq: proto.EndOf(0)}.String()
	for _, since := range []string{"all", "last", epoch + "-0", nothing} {
		if page := r.page("a", "since="+since); len(page.Messages) != 0 || page.More || page.Next != nothing {
			t.Errorf("since %s of an empty stream: got %+v", since, page)
		}
	}
	ids := r.fill("a", "b", "b")
	wantIDs(t, "since the beginning", r.page("a", "since="+epoch+"-0").ids(), ids[:1])
	for _, since := range []string{ids[0], ids[1], ids[2]} {
		if page := r.page("a", "since="+since); len(page.Messages) != 0 || page.More ||
			page.Next != behindPackOf(ids[2]) {
			t.Errorf("since %s: got %+v, want nothing up to %s", since, page, ids[2])
		}
	}
	for _, since := range []string{"all", "last"} {
		if page := r.page("nothing", "since="+since); len(page.Messages) != 0 || page.More ||
			page.Next != behindPackOf(ids[2]) {
			t.Errorf("nothing since %s: got %+v, want nothing up to %s", since, page, ids[2])
		}
	}
}

func TestHistoryLast(t *testing.T) {
	r := start(t, startNATS(t))
	ids := r.fill("a", "b", "a", "c")
	for channel, want := range map[string][]string{"a": {ids[2]}, "b": {ids[1]}, "c": {ids[3]}, "nothing": {}} {
		page := r.page(channel, "since=last&limit=10")
		wantIDs(t, channel, page.ids(), want)
		if page.Next != behindPackOf(ids[3]) || page.More {
			t.Errorf("%s: next %s, more %v; want %s, and no more", channel, page.Next, page.More, ids[3])
		}
	}
	more := r.fill("b", "a")
	wantIDs(t, "what follows", r.page("a", "since="+ids[3]).ids(), more[1:])
	for _, pattern := range []string{"*", "%3E", "a.*"} {
		r.get(pattern, "since=last").problem(t, proto.ProblemInvalidParameter)
	}
}

// A key reads what it covers, and of a pattern all or nothing.
func TestHistoryKeys(t *testing.T) {
	r := start(t, startNATS(t))
	ids := r.fill("orders.eu", "a", "orders.eu.paid")
	shop := addKey(t, "shop", keystore.Options{Channels: []string{"orders.>"}, May: []auth.Scope{auth.History},
		Rate: 1},
		r)
	for channel, want := range map[string][]string{"orders.eu": ids[:1], "orders.*": ids[:1],
		"orders.%3E": {ids[0], ids[2]}, "orders.nothing": {}} {
		wantIDs(t, channel, r.page(channel, "", "X-API-KEY: "+shop).ids(), want)
		wantIDs(t, channel+" by Bearer", r.page(channel, "", "X-API-KEY:", "Authorization: Bearer "+shop).ids(), want)
	}
	for _, channel := range []string{"a", "orders", "%3E", "*", "*.eu", "*.%3E"} {
		p := r.get(channel, "", "X-API-KEY: "+shop).problem(t, proto.ProblemForbidden)
		if !strings.Contains(p.Detail, "may not read") {
			t.Errorf("%s: detail: got %q", channel, p.Detail)
		}
	}
	for _, key := range []string{"X-API-KEY:", "X-API-KEY: wrong"} {
		a := r.get("a", "", key)
		a.problem(t, proto.ProblemUnauthorized)
		if a.header.Get("WWW-Authenticate") == "" {
			t.Error("no WWW-Authenticate")
		}
	}
	if _, err := r.keys().Revoke(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	r.awaitKey(shop, false)
	r.get("orders.eu", "", "X-API-KEY: "+shop).problem(t, proto.ProblemUnauthorized)
}

// A page ends at its bytes, and the next one goes on there.
func TestHistoryBytes(t *testing.T) {
	r := start(t, startNATS(t))
	r.check = nil // the schemas take seconds for such answers
	body := `"` + strings.Repeat("x", 60<<10) + `"`
	var want []string
	for range 4 {
		messages := strings.Repeat(`,{"channel":"a","data":`+body+`}`, 50)
		for _, res := range r.post("/v1/messages", "["+messages[1:]+"]").results(t, http.StatusOK) {
			want = append(want, res.ID)
		}
	}
	var got []string
	since, pages := proto.SinceAll, 0
	for more := true; more; pages++ {
		a := r.get("a", "limit=1000&since="+since)
		var page historyAnswer
		a.decode(t, http.StatusOK, &page)
		if len(a.body) > pageBytes+128<<10 || page.More && len(a.body) < pageBytes/2 {
			t.Errorf("page %d has %d bytes, more %v; want about %d", pages, len(a.body), page.More, pageBytes)
		}
		got = append(got, page.ids()...)
		since, more = page.Next, page.More
	}
	wantIDs(t, "all", got, want)
	if pages != 2 {
		t.Errorf("12 MB took %d pages, want 2", pages)
	}
}

// While NATS is away history is answered with 503 at once, and goes on after.
func TestHistoryOutage(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	ids := r.fill("a", "a")
	server.Stop()
	natstest.Eventually(t, 30*time.Second, "disconnect noticed", func() bool { return !r.nc.IsConnected() })
	begin := time.Now()
	for _, since := range []string{"all", "last", ids[0]} {
		r.get("a", "since="+since).problem(t, proto.ProblemUnavailable)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("three answers took %s", took)
	}
	server.Restart()
	natstest.Eventually(t, 30*time.Second, "history is back",
		func() bool { return r.get("a", "").status == http.StatusOK })
	wantIDs(t, "after the outage", r.page("a", "since="+ids[0]).ids(), ids[1:])
	for code, want := range map[string]bool{"200": true, "503": true, "404": false} {
		if n := testutil.ToFloat64(r.metrics.requests.WithLabelValues("history", code)); (n > 0) != want {
			t.Errorf("requests with %s: got %v counted, want some: %v", code, n, want)
		}
	}
}

// What strangers stored under Herald's subjects does not spoil a page.
func TestHistoryOfForeignMessages(t *testing.T) {
	r := start(t, startNATS(t))
	first := r.fill("a")
	for _, body := range []string{"hello", `{"a":}`, `{"a"}`, `{}`, "", `{"messages":[]`} {
		if _, err := r.js.Publish(t.Context(), proto.SubjectStored+"a", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	last := r.fill("a")
	for _, limit := range []int{1, 2, 100} {
		var got []string
		for since, more := proto.SinceAll, true; more; {
			page := r.page("a", fmt.Sprintf("limit=%d&since=%s", limit, since))
			got = append(got, page.ids()...)
			since, more = page.Next, page.More
		}
		wantIDs(t, fmt.Sprintf("by %d", limit), got, slices.Concat(first, last))
	}
	if _, err := r.js.Publish(t.Context(), proto.SubjectStored+"b", []byte(`{"a":}`)); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, "last", r.page("b", "since=last").ids(), []string{})
}
