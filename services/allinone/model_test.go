package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway"
	"github.com/herald-push/herald/services/ingest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/telemetry"
)

// TestModel has random publishers and random readers meet random losses of
// acknowledgements, of live packs and of connections, of ingest and of the gateway. Then
// everybody is held against the stream: what a publisher was told is stored is stored, under
// that id, once, and nothing else is; what one publisher sent to one channel stands in
// that order. A client that stays, or comes back with the newest id that it has, has got
// every message of its names, once, in the stream's order, and was told of no gap; so has one
// that resumed at any id, one that read history page by page, and one that asked for the
// last ones. The gateway remembers few messages, so that it serves from memory and from the
// stream.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	m := newModel(t, seed)
	calm := m.chaos()
	var publishers, readers sync.WaitGroup
	for i := range modelPublishers {
		publishers.Go(func() { m.publish(i) })
	}
	for i := range 6 {
		readers.Go(func() { m.follow(rand.New(rand.NewPCG(seed, uint64(100+i)))) })
	}
	for i := range 3 {
		readers.Go(func() { m.ask(rand.New(rand.NewPCG(seed, uint64(200+i)))) })
	}
	publishers.Wait()
	calm()
	// What is stored now is what every reader must come to.
	m.post(nil, modelMessage{channel: "the.end", data: "-1"})
	stored := m.readStream()
	m.judgePublishers(stored)
	m.last = stored[len(stored)-1]
	close(m.over)
	readers.Wait()
	if t.Failed() {
		return
	}
	m.judgeReaders(stored)
	m.askCalmly(rand.New(rand.NewPCG(seed, 300)), stored)
}

const modelPublishers = 6

// modelRun is a system under test, and what everybody was told.
type modelRun struct {
	t           *testing.T
	seed        uint64
	server      *natstest.Server
	wires       []*natstest.Wire
	api, ws     string // addresses
	http        *http.Client
	over        chan struct{} // closed when nothing more is published; last is then the newest message
	last        modelMessage
	epochs      natsx.Epochs
	mu          sync.Mutex
	sent        [modelPublishers][]modelMessage // guarded by mu; in order
	ids         []string                        // guarded by mu; of what was acknowledged
	transcripts []transcript                    // guarded by mu
}

// modelMessage is a message as it was sent, or stands in the stream.
type modelMessage struct {
	channel, data, key string
	ttl                int
	ephemeral          bool
	id                 string
	number             uint64
	expires            int64
}

// transcript is what a reader got that must be complete after since up to upTo.
type transcript struct {
	what        string
	names       []string
	since, upTo uint64 // numbers
	got         []modelMessage
}

func newModel(t *testing.T, seed uint64) *modelRun {
	m := &modelRun{t: t, seed: seed, server: natstest.Start(t),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}, over: make(chan struct{})}
	t.Cleanup(m.http.CloseIdleConnections)
	nc := func(name string) (*nats.Conn, *prometheus.Registry, *telemetry.Ops) {
		wire := natstest.NewWire(t, m.server)
		m.wires = append(m.wires, wire)
		nc, err := natsx.Connect(natsx.Config{URL: wire.URL, Name: name}, natstest.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		reg := prometheus.NewRegistry()
		return nc, reg, telemetry.NewOps(reg)
	}
	runs := func(run func(context.Context) error) {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- run(ctx) }() // ends with stop
		t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	in := ingest.DefaultConfig()
	in.Listen, in.APIKey, in.Drain = "127.0.0.1:0", testKey, time.Second
	conn, reg, ops := nc("herald-ingest")
	api, err := ingest.New(t.Context(), in, ingest.Deps{NATS: conn, Log: natstest.Log(t), Registry: reg, Ops: ops,
		Stdout: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	runs(api.Run)
	out := gateway.DefaultConfig()
	out.Listen, out.AnonymousChannels, out.Drain, out.DrainDelay = "127.0.0.1:0", []string{">"}, 100*time.Millisecond, 0
	out.RecentMessages = 300 // what is older comes from the stream
	conn, reg, ops = nc("herald-gateway")
	ws, err := gateway.New(t.Context(), out, gateway.Deps{NATS: conn, Log: natstest.Log(t), Registry: reg, Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	runs(ws.Run)
	m.api, m.ws = "http://"+api.Addr().String(), ws.Addr().String()
	for _, addr := range []string{m.api, "http://" + m.ws} {
		natstest.Eventually(t, 30*time.Second, addr+" is ready", func() bool {
			resp, err := m.http.Get(addr + "/readyz")
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
	return m
}

// chaos loses answers of NATS and connections to it, until the result is called.
func (m *modelRun) chaos() (calm func()) {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	acknowledged := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.ids)
	}
	for i, wire := range m.wires {
		random := rand.New(rand.NewPCG(m.seed, uint64(10+i)))
		wg.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(time.Duration(100+random.IntN(400)) * time.Millisecond)
				wire.Deaf.Store(random.IntN(2) == 0)
				time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
				wire.Cut() // before anything is heard again: half an answer may have been lost
				wire.Deaf.Store(false)
				// Half of the losses come while the one before is still felt. The others wait until something was
				// stored again: on a machine that is slow enough, nothing ever would be.
				if random.IntN(2) == 0 {
					for before := acknowledged(); ctx.Err() == nil && acknowledged() == before; {
						time.Sleep(5 * time.Millisecond)
					}
				}
			}
		})
	}
	return func() { stop(); wg.Wait() }
}

var modelChannels = []string{"a", "a.x", "a.y", "b.x", "b.y.z", "shared"}

// publish is one publisher: single messages, arrays and streams.
func (m *modelRun) publish(publisher int) {
	random := rand.New(rand.NewPCG(m.seed, uint64(20+publisher)))
	n := 0
	for range 60 {
		each := 1
		if random.IntN(3) == 0 {
			each = 1 + random.IntN(50)
		}
		all := make([]modelMessage, each)
		for i := range all {
			n++
			all[i] = modelMessage{channel: modelChannels[random.IntN(len(modelChannels))],
				data: strconv.Itoa(publisher*1_000_000 + n)}
			switch random.IntN(10) {
			case 0, 1, 2:
				all[i].key = "k" + all[i].data
			case 3:
				all[i].ttl = 1 + 3600*random.IntN(2)
			case 4:
				all[i].ephemeral = true
			case 5:
				all[i].data = `"` + all[i].data + strings.Repeat("x", 5000) + `"`
			}
		}
		sent := m.post(random, all...)
		m.mu.Lock()
		m.sent[publisher] = append(m.sent[publisher], sent...)
		for _, s := range sent {
			if s.id != "" {
				m.ids = append(m.ids, s.id)
			}
		}
		m.mu.Unlock()
		time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
	}
}

// post publishes in one request, and returns what was taken, with ids. All that is to be
// stored must be in the end: outages are shorter than messages wait.
func (m *modelRun) post(random *rand.Rand, all ...modelMessage) []modelMessage {
	items := make([]string, len(all))
	for i, one := range all {
		item := fmt.Sprintf(`{"channel":%q,"data":%s`, one.channel, one.data)
		if one.key != "" {
			item += fmt.Sprintf(`,"id":%q`, one.key)
		}
		if one.ttl != 0 {
			item += fmt.Sprintf(`,"ttl":%d`, one.ttl)
		}
		if one.ephemeral {
			item += `,"ephemeral":true`
		}
		items[i] = item + "}"
	}
	body, contentType := items[0], "application/json"
	if len(all) > 1 && random.IntN(2) == 0 {
		body, contentType = strings.Join(items, "\n"), "application/x-ndjson"
	} else if len(all) > 1 {
		body = "[" + strings.Join(items, ",") + "]"
	}
	status, answer := post(m.t, m.api+"/v1/messages", testKey, contentType, body)
	told := results(answer)
	var taken []modelMessage
	cutOff := false
	for i := range all {
		switch {
		case i < len(told) && (told[i].Status == proto.StatusStored || told[i].Status == proto.StatusDuplicate ||
			told[i].Status == proto.StatusSent):
			all[i].id = told[i].ID
			taken = append(taken, all[i])
		case cutOff:
		case all[i].ephemeral:
			// it does not wait while NATS is away; what is behind it in an array may not be sent then
			cutOff = cutOff || body[0] == '['
		default:
			m.t.Errorf("POST %.200s: got %d %.500s; want message %d stored in the end", body, status, answer, i)
			return taken
		}
	}
	return taken
}

// results reads an answer: one result, an array of them, or lines.
func results(answer string) (all []proto.Result) {
	if err := json.Unmarshal([]byte(answer), &all); err == nil {
		return all
	}
	var p proto.Problem
	if json.Unmarshal([]byte(answer), &p) == nil && len(p.Results) > 0 {
		return p.Results
	}
	for line := range strings.Lines(answer) {
		var r proto.Result
		if json.Unmarshal([]byte(line), &r) == nil {
			all = append(all, r)
		}
	}
	return all
}

// readStream reads everything that is stored, past what was broken.
func (m *modelRun) readStream() (all []modelMessage) {
	reader := natsx.NewReader(m.server.Connect(), nil)
	state, err := reader.State(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	m.epochs = state.Epochs
	// All of it, also what has expired by its ttl meanwhile.
	for seq := uint64(1); seq <= state.Last; {
		run, err := reader.Packs(m.t.Context(), seq, state.Last)
		if err != nil || run.Missing > 0 {
			m.t.Fatalf("pack %d: missing up to %d, %v", seq, run.Missing, err)
		}
		for i := range run.Packs {
			for p := &run.Packs[i]; p.Next(); {
				msg, err := proto.ParseMessage(p.Message())
				if err != nil {
					m.t.Fatal(err)
				}
				number := proto.Number(p.Seq, p.Place())
				all = append(all, modelMessage{
					channel: msg.Channel, data: string(msg.Data), number: number, expires: p.Expires(),
					id: proto.Cursor{Epoch: state.Epochs.At(p.Seq), Seq: number}.String(),
				})
			}
			seq++
		}
	}
	return all
}

func (m *modelRun) judgePublishers(stored []modelMessage) {
	byID, copies, want := map[string]modelMessage{}, map[string]int{}, 1 // the end
	for _, s := range stored {
		byID[s.id] = s
		copies[s.data]++
	}
	for publisher, all := range m.sent {
		newest := map[string]uint64{}
		for _, s := range all {
			got := byID[s.id]
			switch {
			case s.ephemeral && (s.id != "" || copies[s.data] > 0):
				m.t.Errorf("publisher %d: the ephemeral %.20s is stored %d times, as %q", publisher, s.data,
					copies[s.data], s.id)
			case s.ephemeral:
				want--
			case got.data != s.data || got.channel != s.channel || (got.expires != 0) != (s.ttl != 0) ||
				copies[s.data] != 1:
				m.t.Errorf("publisher %d: %s is %.20s on %s, stored %d times; want %.20s on %s", publisher,
					s.id, got.data, got.channel, copies[s.data], s.data, s.channel)
			case got.number < newest[s.channel]:
				m.t.Errorf("publisher %d: %.20s stands before an earlier message of %s", publisher, s.data, s.channel)
			default:
				newest[s.channel] = got.number
			}
			want++
		}
	}
	if len(stored) != want {
		m.t.Errorf("the stream has %d messages, want %d", len(stored), want)
	}
}
