package ingest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

// impatient makes an ingest that gives a message up after two seconds: enough for one that NATS takes, on a
// busy machine.
func impatient(c *Config, _ *Deps) { c.patience = 2 * time.Second }

// While NATS is away for longer than messages wait, every way to publish is
// answered with 503, nothing is stored, and when it is back everything works.
func TestOutage(t *testing.T) {
	server := startNATS(t)
	r := start(t, server, impatient)
	r.post("/v1/messages", `{"channel":"a","data":0}`).result(t, http.StatusOK)
	server.Stop()
	natstest.Eventually(t, 30*time.Second, "disconnect noticed", func() bool { return !r.nc.IsConnected() })
	if err := r.ready(t.Context()); err == nil {
		t.Error("ready without NATS")
	}
	for _, call := range []struct{ path, body string }{
		{"/v1/messages", `{"channel":"a","data":1}`},
		{"/v1/messages", `{"channel":"a","data":1,"ephemeral":true}`},
		{"/v1/channels/a", `1`},
		{"/v1/channels/a?ephemeral=true", `1`},
	} {
		p := r.post(call.path, call.body).problem(t, proto.ProblemNotStored)
		if len(p.Results) != 0 {
			t.Errorf("%s: got results %+v", call.path, p.Results)
		}
		if !strings.Contains(p.Detail, "not connected") {
			t.Errorf("%s: detail: got %q", call.path, p.Detail)
		}
	}
	p := r.post("/v1/messages",
		`[{"channel":"a","data":1},{"channels":["b","c"],"data":2},{"channel":"d","data":3,"ephemeral":true}]`).
		problem(t, proto.ProblemNotStored)
	var failed []proto.Result
	for _, channel := range []string{"a", "b", "c", "d"} {
		failed = append(failed, proto.Result{Status: proto.StatusFailed, Channel: channel})
	}
	if fmt.Sprint(p.Results) != fmt.Sprint(failed) {
		t.Errorf("results:\n got %+v\nwant %+v", p.Results, failed)
	}
	results, done := r.post("/v1/messages", strings.Repeat("{\"channel\":\"a\",\"data\":1}\n", 3), ndjson).lines(t)
	if done == nil || done.Failed != 3 || done.Stored != 0 {
		t.Errorf("stream: got end %+v", done)
	}
	for _, res := range results {
		if res.Status != proto.StatusFailed || res.Problem == nil || res.Problem.Type != proto.ProblemNotStored.Type {
			t.Errorf("stream: got %+v", res)
		}
	}
	notifyAnswer(t, "notify", r.post("/notify", `{"message":"x"}`), http.StatusServiceUnavailable,
		`{"error":"The message was not stored; send it again with the same idempotency key: NATS is not connected"}`)

	server.Restart()
	natstest.Eventually(t, 30*time.Second, "ready again", func() bool { return r.ready(t.Context()) == nil })
	r.until200(`{"channel":"a","data":9,"id":"k"}`) // stored once, however late it is acknowledged
	all := stored(t, r.nc)
	if n := len(all); n != 2 || !strings.Contains(string(all[1].Body), `"data":9`) {
		t.Errorf("stored: got %d messages, the last %s; want 2", n, all[len(all)-1].Body)
	}
}

// until200 publishes until it works: after a restart JetStream needs a moment
// longer than the connection.
func (r *rig) until200(body string) proto.Result {
	r.Helper()
	var res proto.Result
	natstest.Eventually(r, 30*time.Second, "publishing works", func() bool {
		a := r.post("/v1/messages", body)
		if a.status == http.StatusOK {
			res = a.result(r, http.StatusOK)
		}
		return a.status == http.StatusOK
	})
	return res
}

// Publishers that send a message with an idempotency key until it is taken,
// while NATS restarts under them, have it stored once, and every 2xx is of a
// stored message.
func TestRetriesOverAnOutage(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	const publishers = 4
	var over atomic.Bool // the restarts are
	var wg sync.WaitGroup
	var acked [publishers][]string
	for p := range publishers {
		wg.Go(func() {
			for n := 0; !over.Load(); n++ {
				body := fmt.Sprintf(`{"channel":"c.%d","data":%d,"id":"m%d.%d"}`, p, n, p, n)
				for {
					a := r.post("/v1/messages", body)
					if a.status == http.StatusOK {
						acked[p] = append(acked[p], a.result(t, http.StatusOK).ID)
						break
					} else if a.status != http.StatusServiceUnavailable {
						t.Errorf("message %d: got %d %s", n, a.status, a.body)
						return
					}
				}
			}
		})
	}
	some := func() {
		seen := r.storedMessages()
		natstest.Eventually(t, 30*time.Second, "some stored", func() bool { return r.storedMessages() > seen+10 })
	}
	for range 2 {
		some()
		server.Restart()
	}
	some()
	over.Store(true)
	wg.Wait()
	ids := map[string]int{}
	for _, m := range stored(t, r.nc) {
		ids[proto.Cursor{Epoch: r.epochs().At(proto.PackOf(m.Number)), Seq: m.Number}.String()]++
	}
	all := slices.Concat(acked[:]...)
	if len(ids) != len(all) {
		t.Errorf("stored: got %d messages, want %d", len(ids), len(all))
	}
	for n, id := range all {
		if ids[id] != 1 {
			t.Errorf("message %d: acknowledged as %s, which is stored %d times", n, id, ids[id])
		}
	}
}

// An outage that is over soon costs publishers a wait, with an idempotency key
// or without: all is stored once, in the order in which it came.
func TestOutageIsBridged(t *testing.T) {
	server := startNATS(t)
	r := start(t, server, func(c *Config, _ *Deps) { c.patience = time.Minute }) // NATS starts late on a busy machine
	server.Stop()
	natstest.Eventually(t, 30*time.Second, "disconnect noticed", func() bool { return !r.nc.IsConnected() })
	bodies := []string{
		`{"channel":"a","data":1,"id":"k"}`, `{"channel":"b","data":2}`,
		`[{"channel":"a","data":3},{"channel":"a","data":4,"id":"l"},{"channel":"a","data":5}]`,
	}
	answers := make([]chan answered, len(bodies))
	waiting := 0.0
	for i, body := range bodies {
		answers[i] = make(chan answered, 1)
		go func() { answers[i] <- r.post("/v1/messages", body) }()
		waiting += float64(strings.Count(body, "channel"))
		natstest.Eventually(t, 30*time.Second, "it waits",
			func() bool { return r.figure("herald_ingest_pending_messages") == waiting })
	}
	server.Restart()
	for i, answer := range answers {
		if a := <-answer; a.status != http.StatusOK || strings.Count(a.body, `"stored"`) != strings.Count(bodies[i],
			"channel") {
			t.Errorf("%s: got %d %s, want it stored", bodies[i], a.status, a.body)
		}
	}
	var got []string
	for _, m := range stored(t, r.nc) {
		if m.Channel == "a" {
			_, data, _ := strings.Cut(string(m.Body), `"data":`)
			got = append(got, data[:1])
		}
	}
	if want := "1 3 4 5"; strings.Join(got, " ") != want {
		t.Errorf("channel a: got %v, want %s", got, want)
	}
}

// An ingest that starts before NATS's JetStream has its stream waits for it.
func TestStartWhileNATSIsAway(t *testing.T) {
	server := startNATS(t)
	r := launch(t, server, func(_ *Config, d *Deps) {
		server.Stop()
		natstest.Eventually(t, 30*time.Second, "disconnect noticed", func() bool { return !d.NATS.IsConnected() })
	})
	if err := r.ready(t.Context()); err == nil {
		t.Error("ready without NATS")
	}
	r.post("/v1/messages", `{"channel":"a","data":1}`).problem(t, proto.ProblemUnavailable)
	r.post("/v1/messages", `{"channel":"a","data":1}`, "X-API-KEY: wrong").problem(t, proto.ProblemUnavailable)
	if a := r.post("/notify", `{"message":1}`); a.status != http.StatusServiceUnavailable ||
		!strings.HasPrefix(a.body, `{"error":`) {
		t.Errorf("/notify: got %d %s", a.status, a.body)
	}
	server.Restart()
	natstest.Eventually(t, 30*time.Second, "ready", func() bool { return r.ready(t.Context()) == nil })
	r.post("/v1/messages", `{"channel":"a","data":1}`).result(t, http.StatusOK)
}

// A NATS that is there only later is judged then: one that is too old is told
// in the log, and ingest does not become ready.
func TestServerTooOldFoundLater(t *testing.T) {
	addr := "127.0.0.1:" + natstest.FreePort(t)
	var err error
	var out logtest.Buffer
	r := launch(t, startNATS(t), func(_ *Config, d *Deps) {
		if d.NATS, err = natsx.Attach(natsx.Config{URL: "nats://" + addr, Name: "herald-ingest"},
			natstest.Log(t)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.NATS.Close)
		d.Log = debugLog(&out)
	})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				_, _ = io.WriteString(c, `INFO {"server_id":"x","version":"2.10.29","proto":1,"headers":true,`+
					`"max_payload":1048576}`+"\r\n")
				for in := bufio.NewScanner(c); in.Scan(); {
					if in.Text() == "PING" {
						_, _ = io.WriteString(c, "PONG\r\n")
					}
				}
			})
		}
	})
	defer wg.Wait()
	defer r.nc.Close()
	defer r.stop()
	defer func() { _ = l.Close() }()
	natstest.Eventually(t, 30*time.Second, "the log says so",
		func() bool { return strings.Contains(out.String(), "too old") })
	if err := r.ready(t.Context()); err == nil {
		t.Error("ready over a server that is too old")
	}
	if n := strings.Count(out.String(), "too old"); n != 1 {
		t.Errorf("said %d times, want 1:\n%s", n, out.String())
	}
}

// The stream is declared as PROTOCOL.md and the settings say.
func TestStreamIsDeclared(t *testing.T) {
	r := start(t, startNATS(t), func(c *Config, _ *Deps) { c.StreamMaxAge, c.StreamMaxBytes = 3*time.Hour, 5<<20 })
	s, err := r.js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	if c.MaxAge != 3*time.Hour || c.MaxBytes != 5<<20 || c.Replicas != 1 || c.Duplicates != 2*time.Minute ||
		c.AllowMsgTTL || c.RePublish == nil {
		t.Errorf("stream: got %+v", c)
	}
}

// When the stream is made anew under ingest, the very next id is of the new
// epoch: its sequence gives it away.
func TestStreamMadeAnew(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	other := dial(t, server)
	message := `{"channel":"a","data":1}`
	for range 5 {
		r.post("/v1/messages", message).result(t, http.StatusOK)
	}
	epoch := natstest.RemakeStream(t, other, 2)
	if res := r.post("/v1/messages", message).result(t, http.StatusOK); res.ID != idAt(epoch, 3) {
		t.Errorf("id: got %s, want %s", res.ID, idAt(epoch, 3))
	}
	// Its sequence does not, if others were quick; a reconnect does. The first
	// attempt may be of either life by then, and is made again.
	natstest.RemakeStream(t, other, 10)
	server.Restart()
	res := r.until200(`{"channel":"a","data":1,"id":"k"}`)
	if want := idAt(r.epochs().At(11), 11); res.ID != want {
		t.Errorf("id after a reconnect: got %s, want %s", res.ID, want)
	}
}

// A stream that is deleted is declared again by itself, and who publishes
// meanwhile waits for that.
func TestStreamDeleted(t *testing.T) {
	server := startNATS(t)
	r := start(t, server)
	first := r.post("/v1/messages", `{"channel":"a","data":1}`).result(t, http.StatusOK)
	if err := r.js.DeleteStream(t.Context(), proto.Stream); err != nil {
		t.Fatal(err)
	}
	again := r.post("/v1/messages", `{"channel":"a","data":1}`).result(t, http.StatusOK)
	if a, b := strings.Split(first.ID, "-"), strings.Split(again.ID, "-"); a[0] == b[0] {
		t.Errorf("ids: got %s, then %s; want another epoch", first.ID, again.ID)
	}
}

// When the stream refuses a message the answer is 503, and the array says
// which ones are stored.
func TestStreamRefuses(t *testing.T) {
	r := start(t, startNATS(t))
	s, err := r.js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	c.MaxMsgs, c.Discard = 2, jetstream.DiscardNew
	if _, err := r.js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	message := `{"channel":"a","data":1}`
	// each is a pack of its own
	keyed := func(n int) string { return fmt.Sprintf(`{"channel":"a","data":1,"id":"k%d"}`, n) }
	p := r.post("/v1/messages", "["+keyed(1)+","+keyed(2)+","+keyed(3)+","+message+","+message+"]").problem(t,
		proto.ProblemNotStored)
	var got []string
	for _, res := range p.Results {
		got = append(got, res.Status)
	}
	if want := "[stored stored failed failed failed]"; fmt.Sprint(got) != want {
		t.Errorf("results: got %v, want %s", got, want)
	}
	r.post("/v1/messages", message).problem(t, proto.ProblemNotStored)
	c.MaxMsgs, c.MaxMsgSize = -1, 200
	if _, err := r.js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r.post("/v1/messages", `{"channel":"a","data":"`+strings.Repeat("x", 300)+`"}`).problem(t, proto.ProblemTooLarge)
}
