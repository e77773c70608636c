package publish

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// aPipeline is one without an ingest around it.
func aPipeline(t *testing.T, nc *nats.Conn) *pipeline {
	t.Helper()
	p, err := newPipeline(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// ack is what the server answers to the message of a number.
func (p *pipeline) ack(number uint64, data string) *nats.Msg {
	return &nats.Msg{Subject: fmt.Sprint(p.prefix, number), Data: []byte(data)}
}

func TestReadAck(t *testing.T) {
	for _, c := range []struct {
		name, data string
		header     nats.Header
		want       outcome
		code       jetstream.ErrorCode // of an *APIError
	}{
		{"stored", `{"stream":"HERALD","seq":1024}`, nil, outcome{seq: 1024}, 0},
		{"a duplicate", `{"stream":"HERALD","seq":1024,"duplicate": true}`, nil, outcome{seq: 1024, duplicate: true}, 0},
		{"otherwise spaced", `{ "stream": "HERALD", "seq": 7, "duplicate":true }`, nil, outcome{seq: 7, duplicate: true}, 0},
		{"of a domain", `{"stream":"HERALD","domain":"hub","seq":7}`, nil, outcome{seq: 7}, 0},
		{"more members", `{"stream":"HERALD","seq":7,"val":"1"}`, nil, outcome{seq: 7}, 0},
		{"the largest sequence", `{"stream":"HERALD","seq":18446744073709551615}`, nil, outcome{seq: 1<<64 - 1}, 0},
		{"refused", `{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"HERALD","seq":0}`, nil, outcome{}, codeTooLarge},
		{"no stream", "", nats.Header{"Status": {"503"}}, outcome{err: jetstream.ErrNoStreamResponse}, 0},
		{"nothing", "", nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"no JSON", "+OK", nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"cut off", `{"stream":"HERALD","seq":`, nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"no sequence", `{"stream":"HERALD","seq":}`, nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"a negative sequence", `{"stream":"HERALD","seq":-1}`, nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"a sequence too large", `{"stream":"HERALD","seq":18446744073709551616}`, nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
		{"of no stream", `{"seq":7}`, nil, outcome{err: jetstream.ErrInvalidJSAck}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := readAck(&nats.Msg{Data: []byte(c.data), Header: c.header})
			if c.code != 0 {
				var api *jetstream.APIError
				if !errors.As(got.err, &api) || api.ErrorCode != c.code {
					t.Errorf("got %+v, want error %d", got, c.code)
				}
				return
			}
			if got.seq != c.want.seq || got.duplicate != c.want.duplicate || !errors.Is(got.err, c.want.err) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// An acknowledgement that comes too late is not taken for that of the message
// that has the slot now, nor is one that comes twice.
func TestLateAcknowledgement(t *testing.T) {
	p := aPipeline(t, natstest.Start(t).Connect())
	first, second := make(chan outcome, 1), make(chan outcome, 1)
	old, err := p.enter(first)
	if err != nil {
		t.Fatal(err)
	}
	p.fail(jetstream.ErrAsyncPublishTimeout, time.Time{})
	if out := <-first; !errors.Is(out.err, jetstream.ErrAsyncPublishTimeout) {
		t.Errorf("given up: got %+v", out)
	}
	number, err := p.enter(second)
	if err != nil || number == old || number%maxPending != old%maxPending {
		t.Fatalf("number: got %d, %v, want another one of the slot of %d", number, err, old)
	}
	p.hear(p.ack(old, `{"stream":"HERALD","seq":1}`))
	p.hear(&nats.Msg{Subject: p.prefix + "x"})
	if len(second) > 0 {
		t.Fatalf("the late one was taken: %+v", <-second)
	}
	p.hear(p.ack(number, `{"stream":"HERALD","seq":2}`))
	p.hear(p.ack(number, `{"stream":"HERALD","seq":3}`))
	if out := <-second; out.seq != 2 || len(second) > 0 || len(first) > 0 {
		t.Errorf("got %+v and %d more, want 2 alone", out, len(second)+len(first))
	}
	if n := p.pending(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// What waits for ackTimeout is given up, what came later is not, and the timer
// runs as long as anything waits.
func TestOverdueAcknowledgement(t *testing.T) {
	p := aPipeline(t, natstest.Start(t).Connect())
	age := func(number uint64, by time.Duration) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.slots[number%maxPending].since = time.Now().Add(-by)
	}
	running := func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.armed }
	old, young := make(chan outcome, 1), make(chan outcome, 1)
	if running() {
		t.Error("the timer runs while nothing waits")
	}
	first, err1 := p.enter(old)
	second, err2 := p.enter(young)
	if err := errors.Join(err1, err2); err != nil || !running() {
		t.Fatalf("%v, running %v", err, running())
	}
	age(first, ackTimeout)
	age(second, ackTimeout/2)
	p.overdue()
	if out := <-old; !errors.Is(out.err, jetstream.ErrAsyncPublishTimeout) || len(young) > 0 || !running() {
		t.Errorf("got %+v, the other %d, running %v", out, len(young), running())
	}
	// It comes back by itself when the second one is due.
	age(second, ackTimeout-50*time.Millisecond)
	p.overdue()
	if out := <-young; !errors.Is(out.err, jetstream.ErrAsyncPublishTimeout) {
		t.Errorf("got %+v", out)
	}
	natstest.Eventually(t, 5*time.Second, "the timer rests", func() bool { return !running() })
}

// Who finds the pipeline full goes on when there is room.
func TestPipelineHasRoomAgain(t *testing.T) {
	p := aPipeline(t, natstest.Start(t).Connect())
	answers := make(chan outcome, maxPending)
	var last uint64
	for range maxPending {
		number, err := p.enter(answers)
		if err != nil {
			t.Fatal(err)
		}
		last = number
	}
	if _, err := p.enter(answers); !errors.Is(err, jetstream.ErrTooManyStalledMsgs) || p.pending() != maxPending {
		t.Errorf("full: got %v, %d wait", err, p.pending())
	}
	entered := make(chan error, 2)
	for range 2 {
		go func() { _, err := p.enter(make(chan outcome, 1)); entered <- err }()
	}
	natstest.Eventually(t, 5*time.Second, "both wait for room", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.queue) == 2 })
	p.hear(p.ack(last, `{"stream":"HERALD","seq":1}`))
	one, other := <-entered, <-entered
	if (one == nil) == (other == nil) || !errors.Is(errors.Join(one, other), jetstream.ErrTooManyStalledMsgs) {
		t.Errorf("got %v and %v, want room for one", one, other)
	}
}

// At the end what waits is told so, and nothing more is taken; so is what
// waits when the connection closes.
func TestPipelineEnds(t *testing.T) {
	nc := natstest.Start(t).Connect()
	p := aPipeline(t, nc)
	answer := make(chan outcome, 1)
	if _, err := p.enter(answer); err != nil {
		t.Fatal(err)
	}
	p.close()
	if out := <-answer; !errors.Is(out.err, jetstream.ErrJetStreamPublisherClosed) {
		t.Errorf("got %+v", out)
	}
	if err := p.publish(nats.NewMsg("herald.msg.a"), answer); !errors.Is(err, jetstream.ErrJetStreamPublisherClosed) {
		t.Errorf("after the end: got %v", err)
	}
	q := aPipeline(t, nc)
	if _, err := q.enter(answer); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { q.run(t.Context()) }) // ends with the connection
	nc.Close()
	wg.Wait()
	if out := <-answer; !errors.Is(out.err, nats.ErrDisconnected) {
		t.Errorf("closed: got %+v", out)
	}
	if err := q.publish(nats.NewMsg("herald.msg.a"), make(chan outcome, 1)); !errors.Is(err, nats.ErrConnectionClosed) || q.pending() != 0 {
		t.Errorf("closed: got %v, %d wait", err, q.pending())
	}
}

// Publishers that share the pipeline each hear of their own messages.
func TestPipelineIsShared(t *testing.T) {
	server := natstest.Start(t)
	nc := server.Connect()
	js, _ := server.Stream(nc)
	p := aPipeline(t, nc)
	const publishers, each = 16, 100
	seqs := make([][]uint64, publishers)
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() {
			answer := make(chan outcome, 1)
			for range each {
				if err := p.publish(&nats.Msg{Subject: proto.StoredSubject(fmt.Sprint("c.", i)), Data: []byte("{}")}, answer); err != nil {
					t.Error(err)
					return
				}
				out := <-answer
				if out.err != nil {
					t.Error(out.err)
					return
				}
				seqs[i] = append(seqs[i], out.seq)
			}
		})
	}
	wg.Wait()
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for i := range publishers {
		want := proto.StoredSubject(fmt.Sprint("c.", i))
		for _, seq := range seqs[i] {
			if m, err := s.GetMsg(t.Context(), seq); err != nil || m.Subject != want {
				t.Fatalf("sequence %d: got %+v, %v, want a message of %s", seq, m, err, want)
			}
		}
	}
	if n := p.pending(); n != 0 || len(seqs[0]) != each {
		t.Errorf("%d wait, %d stored of the first one", n, len(seqs[0]))
	}
}
