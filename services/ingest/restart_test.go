package ingest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// load is publishers that send each request, with an Idempotency-Key, until
// every message in it is accepted, as PROTOCOL.md tells them to.
type load struct {
	*testing.T
	url    string
	client *http.Client

	stop     atomic.Bool
	accepted atomic.Int64 // messages
	refused  atomic.Int64 // answers with 503, and lines that were not stored
	broken   atomic.Int64 // requests without an answer, or half a one
	down     atomic.Int64 // odd while there is no ingest, or none that lets requests finish

	mu  sync.Mutex
	ids map[string]string // guarded by mu; by message, the id it was accepted under
}

// most is how many requests one publisher sends at most: more than the test ever takes.
const most = 5000

// publisher sends requests of n messages each until it is told to stop.
// contentType says how: NDJSON, an array, or, where n is 1, one message.
func (l *load) publisher(name, contentType string, n int) {
	for i := 0; i < most && !l.stop.Load(); i++ {
		var lines []string
		for j := range n {
			lines = append(lines, fmt.Sprintf(`{"channel":"load.%s","data":"%s %d.%d"}`, name, name, i, j))
		}
		body := strings.Join(lines, "\n")
		if contentType != "application/x-ndjson" && n > 1 {
			body = "[" + strings.Join(lines, ",") + "]"
		}
		for begin := time.Now(); !l.send(fmt.Sprintf("%s-%d", name, i), contentType, body); {
			if time.Since(begin) > 3*time.Minute {
				l.Errorf("%s %d: not accepted within three minutes", name, i)
				return
			}
			time.Sleep(20 * time.Millisecond) // sooner than Retry-After says, so as to try more
		}
		l.accepted.Add(int64(n))
		time.Sleep(10 * time.Millisecond) // bounds the load
	}
}

// send makes one attempt and reports whether everything in body is stored.
func (l *load) send(key, contentType, body string) bool {
	down := l.down.Load()
	// A transport error is in order where ingest was away for a part of the
	// request.
	broken := func(err error) bool {
		l.broken.Add(1)
		if down%2 == 0 && down == l.down.Load() {
			l.Errorf("%s: no answer, though ingest was there: %v", key, err)
		}
		return false
	}
	req, err := http.NewRequest(http.MethodPost, l.url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		l.Error(err)
		return true
	}
	req.Header = http.Header{"X-Api-Key": {envKey}, "Idempotency-Key": {key}, "Content-Type": {contentType}}
	resp, err := l.client.Do(req)
	if err != nil {
		return broken(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	a := answered{resp.StatusCode, resp.Header, string(b)}
	var results []proto.Result
	switch {
	case err == nil && a.status == http.StatusOK && contentType == "application/x-ndjson":
		var done *doneLine
		if results, done = a.lines(l); done == nil {
			l.Errorf("%s: a whole answer without an end: %s", key, a.body)
		}
	case a.status == http.StatusOK && contentType == "application/x-ndjson": // cut off: what is there counts
		at := strings.LastIndexByte(a.body, '\n') + 1
		results, _ = answered{body: a.body[:at]}.lines(l)
		broken(err)
		l.note(key, body, results)
		return false
	case err != nil:
		return broken(err)
	case a.status == http.StatusServiceUnavailable:
		l.refused.Add(1)
		var p proto.Problem
		if err := json.Unmarshal(b, &p); err != nil || a.header.Get("Retry-After") == "" {
			l.Errorf("%s: 503 with Retry-After %q and %s", key, a.header.Get("Retry-After"), b)
		}
		l.note(key, body, p.Results)
		return false
	case a.status != http.StatusOK:
		l.Errorf("%s: got %d %s, want 200, or 503", key, a.status, b)
		return true
	case strings.HasPrefix(body, "["):
		results = a.results(l, http.StatusOK)
	default:
		results = []proto.Result{a.result(l, http.StatusOK)}
	}
	return l.note(key, body, results)
}

// note keeps the ids of messages that were accepted, and checks that each has
// one for ever. It reports whether all of body were.
func (l *load) note(key, body string, results []proto.Result) bool {
	lines := strings.Split(strings.Trim(body, "[]"), "{\"channel\"")[1:]
	if len(results) > len(lines) {
		l.Errorf("%s: got %d results for %d messages", key, len(results), len(lines))
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := len(results) == len(lines)
	for i, res := range results {
		_, rest, _ := strings.Cut(lines[i], `"data":"`)
		data, _, _ := strings.Cut(rest, `"`)
		switch res.Status {
		case proto.StatusStored, proto.StatusDuplicate:
			if was := l.ids[data]; was != "" && was != res.ID {
				l.Errorf("%s: accepted as %s, then as %s", data, was, res.ID)
			}
			l.ids[data] = res.ID
		case proto.StatusFailed:
			if p := res.Problem; p != nil && p.Status != http.StatusServiceUnavailable {
				l.Errorf("%s: got %+v, want a 503", data, p)
			}
			l.refused.Add(1)
			all = false
		default:
			l.Errorf("%s: got %+v", data, res)
		}
	}
	return all
}

// await waits until n more messages are accepted.
func (l *load) await(n int64) {
	l.Helper()
	n += l.accepted.Load()
	natstest.Eventually(l, 30*time.Second, fmt.Sprintf("%d messages accepted", n),
		func() bool { return l.accepted.Load() >= n || l.Failed() })
}

// Publishers that retry have every message stored once, while NATS and
// ingest itself go away and come back, in turn and together; and nothing but
// 503 with Retry-After, or a connection that broke with ingest, tells them to.
func TestRestarts(t *testing.T) {
	server := startNATS(t)
	var r *rig
	listen, grace := "127.0.0.1:"+natstest.FreePort(t), 2*time.Second // the same one every time
	launchIngest := func() {
		t.Helper()
		nc := attach(t, server)
		r = launch(t, server, func(c *Config, d *Deps) { c.Listen, c.Drain, d.NATS = listen, grace, nc })
	}
	launchIngest()
	natstest.Eventually(t, 30*time.Second, "ingest ready", func() bool { return r.ready(t.Context()) == nil })
	l := &load{T: t, url: r.url, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16},
		Timeout: time.Minute}, ids: map[string]string{}}
	defer l.client.CloseIdleConnections()
	var wg sync.WaitGroup
	for p := range 2 {
		wg.Go(func() { l.publisher(fmt.Sprintf("single%d", p), "application/json", 1) })
		wg.Go(func() { l.publisher(fmt.Sprintf("array%d", p), "application/json", 7) })
		wg.Go(func() { l.publisher(fmt.Sprintf("stream%d", p), "application/x-ndjson", 20) })
	}
	defer wg.Wait()
	defer l.stop.Store(true)
	restartIngest := func(between func()) {
		l.down.Add(1)
		r.stop()
		between()
		launchIngest()
		l.down.Add(1)
	}

	l.await(100)
	for range 2 { // NATS comes and goes
		server.Restart()
		l.await(100)
	}
	refused := l.refused.Load()
	server.Stop() // for longer than a request bridges by itself
	natstest.Eventually(t, 30*time.Second, "publishers refused", func() bool { return l.refused.Load() >= refused+6 })
	server.Restart()
	l.await(100)
	restartIngest(func() {}) // gently
	l.await(100)
	grace = time.Millisecond
	restartIngest(server.Restart) // and both
	l.await(100)
	restartIngest(func() {}) // that one does not let requests finish
	l.await(100)
	restartIngest(server.Stop) // it comes up without NATS
	if err := r.ready(t.Context()); err == nil {
		t.Error("ready without NATS")
	}
	refused = l.refused.Load()
	natstest.Eventually(t, 30*time.Second, "publishers refused", func() bool { return l.refused.Load() >= refused+6 })
	if a := r.do(http.MethodGet, "/healthz", nil); a.status != http.StatusOK {
		t.Errorf("/healthz without NATS: got %d %s", a.status, a.body)
	}
	server.Restart()
	l.await(100)
	l.stop.Store(true)
	wg.Wait()

	natstest.Eventually(t, 30*time.Second, "ready", func() bool { return r.ready(t.Context()) == nil })
	epochs, times := r.epochs(), map[string]int{}
	for _, received := range stored(t, r.nc) {
		m, err := proto.ParseMessage(received.Body)
		var data string
		if err == nil {
			err = json.Unmarshal(m.Data, &data)
		}
		if err != nil {
			t.Fatalf("stored %s: %v", received.Body, err)
		}
		times[data]++
		if id := (proto.Cursor{Epoch: epochs.At(proto.PackOf(received.Number)),
			Seq: received.Number}).String(); l.ids[data] != id {
			t.Errorf("%s: stored as %s, accepted as %q", data, id, l.ids[data])
		}
	}
	for data, id := range l.ids {
		if times[data] != 1 {
			t.Errorf("%s: accepted as %s, stored %d times", data, id, times[data])
		}
	}
	if int64(len(l.ids)) != l.accepted.Load() {
		t.Errorf("accepted %d messages in whole requests, %d by themselves; want as many",
			l.accepted.Load(), len(l.ids))
	}
	t.Logf("%d messages accepted; %d answers 503, %d broken requests", len(l.ids), l.refused.Load(), l.broken.Load())
}
