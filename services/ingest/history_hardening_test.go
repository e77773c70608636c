package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func received(seq uint64) natsx.Received {
	return natsx.Received{Channel: "a", Number: proto.Number(seq, 0),
		Body: []byte(`{"channel":"a","event":"message","data":1,"sender":"x","time":"2026-11-22T16:58:36.123Z"}`)}
}

// What is no question is refused, and the answer names the parameter.
func TestHistoryParameters(t *testing.T) {
	r := start(t, startNATS(t))
	for query, name := range map[string]string{
		"limit=0": "limit", "limit=-1": "limit", "limit=1001": "limit", "limit=99999999999999999999": "limit",
		"limit=": "limit", "limit=1e2": "limit",
		"limit=1&limit=2": "limit", "limit=0x10": "limit", "limit=%00": "limit", "since=": "since",
		"since=ALL": "since", "since=1": "since", "since=-1": "since",
		"since=a-": "since", "since=a-01": "since", "since=a-1-1": "since", "since=A-1": "since",
		"since=a-18446744073709551616": "since", "since=%20all": "since",
		"since=all&since=last": "since", "since=" + strings.Repeat("a", 64) + "-1": "since", "since=a-%D9%A1": "since",
		"since=a-1%0d%0aX-Evil:1": "since",
		"before=1":                "before", "Limit=1": "Limit", "a;b": "query", "limit=%zz": "query",
		"=": "known parameters are since, limit",
	} {
		p := r.get("a", query).problem(t, proto.ProblemInvalidParameter)
		if !strings.Contains(p.Detail, name) {
			t.Errorf("%s: detail: got %q, want one that names %s", query, p.Detail, name)
		}
	}
	for _, channel := range []string{"a..b", ".a", "a%20b", "a%00", "a%0d%0aX", "%3E.a", "a*", "a%22", "%FF", "a%5C",
		strings.Repeat("a", 256)} {
		p := r.get(channel, "").problem(t, proto.ProblemInvalidParameter)
		if !strings.Contains(p.Detail, "channel") {
			t.Errorf("%s: detail: got %q", channel, p.Detail)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		if a := r.do(method, "/v1/channels/a/messages", nil); a.status != http.StatusMethodNotAllowed ||
			a.header.Get("Allow") != http.MethodGet {
			t.Errorf("%s: got %d, Allow %q, want 405 and GET", method, a.status, a.header.Get("Allow"))
		}
	}
	if a := r.do(http.MethodGet, "/v1/channels/a/b/messages", nil); a.status != http.StatusNotFound {
		t.Errorf("two segments: got %d, want 404", a.status)
	}
}

// Requests beyond those that may be served at once wait, and are then told to
// come again.
func TestHistoryCrowd(t *testing.T) {
	r := start(t, startNATS(t))
	var taken []func()
	for i := range maxPages {
		free, err := r.pages.Acquire(strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, free)
	}
	router := httpx.NewRouter(natstest.Log(t))
	r.Mount(router)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/channels/a/messages", nil)
	req.Header.Set("X-API-KEY", envKey)
	w := httptest.NewRecorder()
	router.ServeHTTP(w, req)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s, want 503 with Retry-After", w.Code, w.Body)
	}
	answer := make(chan historyAnswer, 1)
	go func() { answer <- r.page("a", "") }()
	taken[0]()
	if page := <-answer; page.Next == "" {
		t.Errorf("after a place was free: got %+v", page)
	}
	for _, free := range taken[1:] {
		free()
	}
	// One key alone does not keep the others out.
	for range maxPagesOfKey {
		free, err := r.pages.Acquire("slow")
		if err != nil {
			t.Fatal(err)
		}
		defer free()
	}
	if _, err := r.pages.Acquire("slow"); !errors.Is(err, httpx.ErrKeyHasPlaces) {
		t.Errorf("a key with %d pages gets another: %v", maxPagesOfKey, err)
	}
	if page := r.page("a", ""); page.Next == "" {
		t.Errorf("another key: got %+v", page)
	}
}

// behind makes the stream's direct gets be answered as by a replica that has
// nothing after seq yet. It returns how many it answered, and what lets the
// replica catch up.
func (r *rig) behind(t *testing.T, seq uint64) (answered *atomic.Int64, catchUp func()) {
	t.Helper()
	all := stored(t, r.nc)
	s, err := r.js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	direct := func(allow bool) {
		t.Helper()
		c := s.CachedInfo().Config
		c.AllowDirect = allow
		if _, err := r.js.UpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	direct(false)
	answered = new(atomic.Int64)
	sub, err := r.nc.Subscribe("$JS.API.DIRECT.GET."+proto.Stream, func(req *nats.Msg) {
		answered.Add(1)
		var q struct {
			Seq uint64 `json:"seq"`
		}
		_ = json.Unmarshal(req.Data, &q)
		sent := false
		for _, m := range all {
			if at := proto.PackOf(m.Number); at >= q.Seq && at <= seq {
				sent = true
				_ = req.RespondMsg(&nats.Msg{Data: m.Body, Header: nats.Header{
					"Nats-Subject": {proto.SubjectStored + m.Channel}, "Nats-Sequence": {strconv.FormatUint(at, 10)},
				}})
			}
		}
		end := nats.Header{"Status": {"404"}, "Description": {"No Results"}}
		if sent {
			end = nats.Header{"Status": {"204"}, "Description": {"EOB"}, "Nats-Num-Pending": {"0"},
				"Nats-Last-Sequence": {strconv.FormatUint(seq, 10)}}
		}
		_ = req.RespondMsg(&nats.Msg{Header: end})
	})
	if err != nil {
		t.Fatal(err)
	}
	return answered, func() {
		t.Helper()
		direct(true)
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
}

// A replica that lags behind its leader makes no page end early.
func TestHistoryFromAReplicaThatIsBehind(t *testing.T) {
	r := start(t, startNATS(t))
	ids := r.fill("a", "b", "b", "a", "a")
	_, catchUp := r.behind(t, 2)
	page := r.page("a", "")
	wantIDs(t, "what the replica has", page.ids(), ids[:1])
	if !page.More || page.Next != behindPackOf(ids[1]) {
		t.Errorf("got next %s, more %v; want %s, the place up to which it has them, and more", page.Next, page.More,
			behindPackOf(ids[1]))
	}
	catchUp()
	wantIDs(t, "the rest", r.page("a", "since="+page.Next).ids(), ids[3:])

	for _, query := range []string{"since=" + ids[2], "since=last"} {
		asked, catchUp := r.behind(t, 2)
		answer := make(chan historyAnswer, 1)
		go func() { answer <- r.page("a", query) }()
		natstest.Eventually(t, 30*time.Second, "asked again", func() bool { return asked.Load() >= 3 })
		select {
		case page := <-answer:
			t.Errorf("%s: got %+v from a replica that has nothing", query, page)
		default:
			catchUp()
			if page := <-answer; page.Messages[len(page.Messages)-1].ID != ids[4] || page.More ||
				page.Next != behindPackOf(ids[4]) {
				t.Errorf("%s: got %+v, want it to end with %s", query, page, ids[4])
			}
		}
	}
}

// A page is of one life of the stream: where it is made anew while the page is
// read, no id would be true.
func TestHistoryWhileTheStreamIsMadeAnew(t *testing.T) {
	server := startNATS(t)
	r := start(t, server, neverRechecks)
	other := dial(t, server)
	for since, want := range map[string]*proto.Problem{"all": proto.ProblemUnavailable, "first": proto.ProblemGone} {
		js, err := jetstream.New(other)
		if err != nil {
			t.Fatal(err)
		}
		ack, err := js.Publish(t.Context(), proto.SubjectStored+"a", received(1).Body)
		if err != nil {
			t.Fatal(err)
		}
		s, err := js.Stream(t.Context(), proto.Stream)
		if err != nil {
			t.Fatal(err)
		}
		if since == "first" {
			since = proto.Cursor{Epoch: proto.EpochOf(s.CachedInfo().Created), Seq: ack.Sequence - 1}.String()
		}
		asked, catchUp := r.behind(t, 0)
		answer := make(chan answered, 1)
		go func() { answer <- r.get("a", "since="+since) }()
		natstest.Eventually(t, 30*time.Second, "asked", func() bool { return asked.Load() >= 2 })
		natstest.RemakeStream(t, other, 0)
		a := <-answer
		if a.status != http.StatusServiceUnavailable { // while there is none at all
			a.problem(t, want)
		}
		catchUp()
	}
}
