package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pipeline passes messages to JetStream and hears what became of each. It
// does what jetstream.PublishMsgAsync does, without a future, a timer, two Go
// channels and a reflected JSON document per message: one subscription hears
// all acknowledgements, a message waits in a slot whose number is the last
// token of its reply subject, and one timer looks after all of them. Nothing is
// sent twice: that would be behind later messages, out of order. Safe for
// concurrent use.
type pipeline struct {
	// Fixed after newPipeline.
	nc     *nats.Conn
	prefix string // of the reply subjects: an inbox of this pipeline's own, with the last dot
	heard  *nats.Subscription

	mu    sync.Mutex
	slots [maxPending]slot // guarded by mu
	free  []int            // guarded by mu; the slots in which nothing waits
	queue []chan int       // guarded by mu; of those who wait for a slot, in order; each has room for one
	watch *time.Timer      // guarded by mu; runs overdue while something waits
	armed bool             // guarded by mu
	ended bool             // guarded by mu
}

// slot holds one message that waits.
type slot struct {
	number uint64 // of the reply subject: the slot's place modulo maxPending; each use has another one
	answer chan<- outcome
	since  time.Time
}

// outcome is what became of one attempt to store a message: acknowledged, or
// an error. Errors are those of jetstream.PublishMsgAsync: *APIError,
// ErrNoStreamResponse, ErrAsyncPublishTimeout, ErrInvalidJSAck,
// ErrJetStreamPublisherClosed and nats.ErrDisconnected.
type outcome struct {
	seq       uint64
	duplicate bool
	err       error
}

// newPipeline subscribes to the acknowledgements, also while nc is not
// connected yet. close ends it.
func newPipeline(nc *nats.Conn) (*pipeline, error) {
	p := &pipeline{nc: nc, prefix: nc.NewInbox() + ".", free: make([]int, maxPending)}
	for i := range p.free {
		p.free[i], p.slots[i].number = i, uint64(i)
	}
	p.watch = time.AfterFunc(ackTimeout, p.overdue)
	p.watch.Stop()
	var err error
	if p.heard, err = nc.Subscribe(p.prefix+"*", p.hear); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	return p, nil
}

// run fails what waits whenever NATS goes away, since its acknowledgements are
// lost, until ctx ends or the connection is closed.
func (p *pipeline) run(ctx context.Context) {
	status := p.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer p.nc.RemoveStatusListener(status)
	for !p.nc.IsClosed() { // then nothing is said any more
		select {
		case <-ctx.Done():
			return
		case <-status:
			p.fail(nats.ErrDisconnected, time.Time{})
		}
	}
	p.fail(nats.ErrDisconnected, time.Time{})
}

// close fails what still waits, and takes no more.
func (p *pipeline) close() {
	p.mu.Lock()
	p.ended = true
	p.watch.Stop()
	p.mu.Unlock()
	_ = p.heard.Unsubscribe() // fails on a closed connection only
	p.fail(jetstream.ErrJetStreamPublisherClosed, time.Time{})
}

// pending is how many messages wait.
func (p *pipeline) pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maxPending - len(p.free)
}

// publish sends msg and sets its reply subject; answer, which must have room
// for one value, is told what became of it, once. After an error it is told
// nothing. publish waits up to stallWait while maxPending messages wait
// already; the error is then ErrTooManyStalledMsgs. msg is nats.go's no longer
// when it returns.
func (p *pipeline) publish(msg *nats.Msg, answer chan outcome) error {
	number, err := p.enter(answer)
	if err != nil {
		return err
	}
	var reply [64]byte
	msg.Reply = string(strconv.AppendUint(append(reply[:0], p.prefix...), number, 10))
	if err := p.nc.PublishMsg(msg); err != nil {
		if p.leave(number) == nil {
			<-answer // the connection went away in between, and this attempt with it
		}
		return err
	}
	return nil
}

// enter gives a slot to a message.
func (p *pipeline) enter(answer chan<- outcome) (number uint64, err error) {
	i, err := p.slot()
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		p.yield(i)
		return 0, jetstream.ErrJetStreamPublisherClosed
	}
	s := &p.slots[i]
	s.number += maxPending
	s.answer, s.since = answer, time.Now()
	if !p.armed {
		p.armed = true
		p.watch.Reset(ackTimeout)
	}
	return s.number, nil
}

// slot finds a slot, or waits for one. Who came first gets the first: a stream
// that is unlucky again and again would lose a message otherwise.
func (p *pipeline) slot() (int, error) {
	p.mu.Lock()
	if n := len(p.free); n > 0 || p.ended {
		defer p.mu.Unlock()
		if p.ended {
			return 0, jetstream.ErrJetStreamPublisherClosed
		}
		i := p.free[n-1]
		p.free = p.free[:n-1]
		return i, nil
	}
	turn := make(chan int, 1)
	p.queue = append(p.queue, turn)
	p.mu.Unlock()
	patience := time.NewTimer(stallWait)
	defer patience.Stop()
	select {
	case i := <-turn:
		return i, nil
	case <-patience.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := slices.Index(p.queue, turn); at >= 0 {
		p.queue = slices.Delete(p.queue, at, at+1)
		return 0, jetstream.ErrTooManyStalledMsgs
	}
	return <-turn, nil // it came in between
}

// yield gives a slot to who waits first, or makes it free. Under mu: the send
// does not block, as turn has room.
func (p *pipeline) yield(i int) {
	if len(p.queue) == 0 {
		p.free = append(p.free, i)
		return
	}
	turn := p.queue[0]
	p.queue = slices.Delete(p.queue, 0, 1)
	turn <- i
}

// leave frees the slot of a number and returns whom to tell; nil if nobody
// waits there under that number (any more).
func (p *pipeline) leave(number uint64) chan<- outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := &p.slots[number%maxPending]; s.number == number {
		return p.vacate(s)
	}
	return nil
}

// vacate is leave under mu.
func (p *pipeline) vacate(s *slot) chan<- outcome {
	answer := s.answer
	if answer == nil {
		return nil
	}
	s.answer = nil
	p.yield(int(s.number % maxPending))
	return answer
}

// hear takes one acknowledgement. A number that nobody waits under is of an
// attempt that was given up.
func (p *pipeline) hear(m *nats.Msg) {
	number, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, p.prefix), 10, 64)
	if err != nil {
		return
	}
	if answer := p.leave(number); answer != nil {
		answer <- readAck(m)
	}
}

// fail tells what has waited since then, or everything if since is zero, that
// err is what became of it, and returns since when the oldest other one waits:
// zero without.
func (p *pipeline) fail(err error, since time.Time) (oldest time.Time) {
	var told []chan<- outcome
	p.mu.Lock()
	for i := range p.slots {
		s := &p.slots[i]
		switch {
		case s.answer == nil:
		case since.IsZero() || !s.since.After(since):
			told = append(told, p.vacate(s))
		case oldest.IsZero() || s.since.Before(oldest):
			oldest = s.since
		}
	}
	p.mu.Unlock()
	for _, answer := range told {
		answer <- outcome{err: err}
	}
	return oldest
}

// overdue gives up what has waited for ackTimeout, and comes back when the
// next one will have.
func (p *pipeline) overdue() {
	oldest := p.fail(jetstream.ErrAsyncPublishTimeout, time.Now().Add(-ackTimeout))
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
	case oldest.IsZero() && len(p.free) == maxPending:
		p.armed = false
	case oldest.IsZero(): // what came in between
		p.watch.Reset(ackTimeout)
	default:
		p.watch.Reset(time.Until(oldest.Add(ackTimeout)))
	}
}

// What nats-server writes when a message is stored (server/stream.go), and
// when it was stored before:
//
//	{"stream":"HERALD","seq":1024}
//	{"stream":"HERALD","seq":1024,"duplicate": true}
var (
	ackBegin     = []byte(`{"stream":"HERALD","seq":`)
	ackDuplicate = []byte(`,"duplicate": true}`)
)

// readAck reads an acknowledgement. What does not look exactly like the usual
// one is read as the JSON that it is.
func readAck(m *nats.Msg) outcome {
	if rest, ok := bytes.CutPrefix(m.Data, ackBegin); ok {
		var seq uint64
		n := 0
		for n < len(rest) && n < 19 && '0' <= rest[n] && rest[n] <= '9' { // 19 digits never overflow
			seq = seq*10 + uint64(rest[n]-'0')
			n++
		}
		rest = rest[n:]
		stored := len(rest) == 1 && rest[0] == '}'
		if duplicate := bytes.Equal(rest, ackDuplicate); n > 0 && (stored || duplicate) {
			return outcome{seq: seq, duplicate: duplicate}
		}
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return outcome{err: jetstream.ErrNoStreamResponse}
	}
	var ack struct {
		Error *jetstream.APIError `json:"error"`
		jetstream.PubAck
	}
	switch err := json.Unmarshal(m.Data, &ack); {
	case err == nil && ack.Error != nil:
		return outcome{err: ack.Error}
	case err != nil, ack.Stream == "":
		return outcome{err: errors.Join(jetstream.ErrInvalidJSAck, err)}
	}
	return outcome{seq: ack.Sequence, duplicate: ack.Duplicate}
}
