package ingest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

// wired starts an ingest that reaches its NATS over a wire, and an own
// connection to look into the stream.
func wired(t *testing.T, patience time.Duration) (*rig, *natstest.Wire, *nats.Conn) {
	t.Helper()
	server := startNATS(t)
	w := natstest.NewWire(t, server)
	r := start(t, server, func(c *Config, d *Deps) {
		c.patience = patience
		nc, err := natsx.Connect(natsx.Config{URL: w.URL, Name: "herald-ingest"}, d.Log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		d.NATS = nc
	})
	return r, w, dial(t, server)
}

// awaitStored waits until the stream has n messages, whoever knows of it.
func awaitStored(t *testing.T, nc *nats.Conn, n uint64) {
	t.Helper()
	natstest.Eventually(t, 30*time.Second, "the messages are stored", func() bool {
		state, err := natsx.NewReader(nc, nil).State(t.Context())
		return err == nil && state.Last >= n
	})
}

// keyedCalls are the ways to publish with an idempotency key; each stores two
// messages but the first, which stores one.
var keyedCalls = []struct {
	name, path, body string
	headers          []string
}{
	{"single", "/v1/messages", `{"channel":"single","data":1}`, []string{"Idempotency-Key: k"}},
	{"array", "/v1/messages", `[{"channel":"array","data":1},{"channel":"array","data":2}]`,
		[]string{"Idempotency-Key: k"}},
	{"stream", "/v1/messages", "{\"channel\":\"stream\",\"data\":1}\n{\"channel\":\"stream\",\"data\":2}\n",
		[]string{"Idempotency-Key: k", ndjson}},
}

const keyedMessages = 5

// publishKeyed makes all calls at once and returns their answers, in order.
func publishKeyed(r *rig) func() []answered {
	answers := make([]chan answered, len(keyedCalls))
	for i, c := range keyedCalls {
		answers[i] = make(chan answered, 1)
		go func() { answers[i] <- r.post(c.path, c.body, c.headers...) }()
	}
	return func() []answered {
		var all []answered
		for _, a := range answers {
			all = append(all, <-a)
		}
		return all
	}
}

// wantUnknown checks the answers to calls whose outcome ingest cannot know.
func wantUnknown(t *testing.T, answers []answered) {
	t.Helper()
	for i, a := range answers {
		name := keyedCalls[i].name
		if name != "stream" {
			p := a.problem(t, proto.ProblemNotStored)
			if a.header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", name)
			}
			for _, res := range p.Results {
				if res.Status != proto.StatusFailed {
					t.Errorf("%s: got %+v, want failed", name, res)
				}
			}
			continue
		}
		results, done := a.lines(t)
		if done == nil || done.Stored != 0 || done.Failed != 2 {
			t.Errorf("%s: got %+v, end %+v, want two failed", name, results, done)
		}
		for _, res := range results {
			if res.Problem == nil || res.Problem.Type != proto.ProblemNotStored.Type {
				t.Errorf("%s: got %+v, want not-stored", name, res)
			}
		}
	}
}

// wantOnce checks answers of retries: duplicates all, of messages that are
// stored once.
func wantOnce(t *testing.T, nc *nats.Conn, answers []answered) {
	t.Helper()
	var results []proto.Result
	for i, a := range answers {
		switch keyedCalls[i].name {
		case "single":
			results = append(results, a.result(t, http.StatusOK))
		case "array":
			results = append(results, a.results(t, http.StatusOK)...)
		default:
			lines, _ := a.lines(t)
			results = append(results, lines...)
		}
	}
	ids := map[string]bool{}
	for _, res := range results {
		if res.Status != proto.StatusDuplicate || ids[res.ID] {
			t.Errorf("got %+v, want a duplicate with an id of its own", res)
		}
		ids[res.ID] = true
	}
	if n := len(stored(t, nc)); n != keyedMessages || len(ids) != keyedMessages {
		t.Errorf("got %d messages stored and %d ids, want %d of each", n, len(ids), keyedMessages)
	}
}

// Where the acknowledgement is lost the outcome is unknown: 503, after
// publish.Patience at most, and the retry with the same key finds it stored.
func TestLostAcknowledgement(t *testing.T) {
	t.Parallel() // with the next one: both mostly wait
	r, w, nc := wired(t, 10*time.Second)
	w.Deaf.Store(true)
	answers := publishKeyed(r)
	awaitStored(t, nc, keyedMessages)
	wantUnknown(t, answers())
	if err := r.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "does not acknowledge messages") {
		t.Errorf("ready while acknowledgements are missing: got %v", err)
	}
	w.Deaf.Store(false)
	w.Cut() // half a line may be lost, too
	natstest.Eventually(t, 30*time.Second, "ready again", func() bool { return r.ready(t.Context()) == nil })
	wantOnce(t, nc, publishKeyed(r)())
}

// Where the connection breaks before the acknowledgement and stays away for
// longer than ingest tries again by itself, the same holds.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	r, w, nc := wired(t, 10*time.Second)
	w.Deaf.Store(true)
	answers := publishKeyed(r)
	awaitStored(t, nc, keyedMessages)
	w.Closed.Store(true)
	w.Cut()
	wantUnknown(t, answers())
	w.Deaf.Store(false)
	w.Closed.Store(false)
	natstest.Eventually(t, 30*time.Second, "ready again", func() bool { return r.ready(t.Context()) == nil })
	wantOnce(t, nc, publishKeyed(r)())
}

// A connection that is back soon is bridged: ingest sends everything again,
// and NATS, which has it already, says so.
func TestLostConnectionIsBridged(t *testing.T) {
	r, w, nc := wired(t, time.Minute)
	w.Deaf.Store(true)
	answers := publishKeyed(r)
	plain := make(chan answered, 1)
	go func() { plain <- r.post("/v1/messages", `{"channel":"plain","data":1}`) }()
	awaitStored(t, nc, keyedMessages+1)
	natstest.Eventually(t, 30*time.Second, "every acknowledgement is lost",
		func() bool { return w.LostAcks.Load() > keyedMessages })
	w.Deaf.Store(false)
	w.Cut()
	if res := (<-plain).result(t, http.StatusOK); res.Status != proto.StatusStored {
		t.Errorf("without a key: got %+v, want stored", res)
	}
	for i, a := range answers() {
		if a.status != http.StatusOK || strings.Count(a.body, proto.StatusDuplicate) != 1+min(i, 1) {
			t.Errorf("%s: got %d %s, want duplicates", keyedCalls[i].name, a.status, a.body)
		}
	}
	if n := r.figure("herald_ingest_retries_total"); n < 3 {
		t.Errorf("retries: got %v, want some", n)
	}
	counts := map[string]int{}
	for _, m := range stored(t, nc) {
		counts[m.Channel]++
	}
	if counts["plain"] != 1 || counts["single"] != 1 || counts["array"] != 2 || counts["stream"] != 2 {
		t.Errorf("stored: got %v, want each message once", counts)
	}
}
