// Package publish stores the messages of ingest's requests in the stream.
//
// Guarantees. What Settle says is stored, JetStream has acknowledged. Messages
// that are sent one after the other stand in the stream in that order. Send blocks
// for half a second at most, while NATS is behind; Settle until it is known what
// became of the message. Nothing is kept in memory for later: while NATS is
// away, publishing fails at once, or, with an idempotency key, after some seconds.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/tracing"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxPending is how many messages of all requests may wait for their
	// acknowledgement. More than that is refused: NATS is behind.
	maxPending = 4096
	// ackTimeout is when an acknowledgement counts as lost. A full pipeline
	// over a disk that syncs each message (400 a second) still makes it.
	ackTimeout = 10 * time.Second
	// stallWait is how long a message waits for room in the pipeline.
	stallWait = 500 * time.Millisecond
	// retryFor is how long after it was sent a message with an idempotency key
	// is sent again; retryEvery the pause between. It bridges a reconnect and
	// the election of a stream leader.
	retryFor   = 3 * time.Second
	retryEvery = 50 * time.Millisecond
	// envelopeBytes is room within NATS's max_payload for what surrounds the
	// data: channel, event and sender (383 bytes at most) with their JSON, and
	// the headers, of which the message id may have 1.1 KB.
	envelopeBytes = 4 << 10
)

// MaxWindow is how many messages that are not acknowledged one request may
// have, so that a long stream leaves room for others.
const MaxWindow = 512

// Config is what a Publisher is told.
type Config struct {
	Stream natsx.StreamConfig
	// Recheck is how often the stream is looked at; see recheckEvery, which is
	// what 0 means.
	Recheck time.Duration
	// Store says why nothing can be stored at the moment; nil asks NATS.
	Store func() error
}

// Publisher stores messages over one shared pipeline: requests do not wait for
// each other's acknowledgements, each waits for its own. Safe for concurrent
// use.
type Publisher struct {
	nc       *nats.Conn
	pipeline *pipeline
	stream   *stream
	metrics  *metrics
	log      *slog.Logger
	warned   atomic.Int64 // Unix second of the last warning
	spare    sync.Pool    // of *Delivery: those that are settled
}

// Delivery is one message under way. It is used again for another one: Settle
// is the last that may be called with it.
type Delivery struct {
	msg       nats.Msg // its header and data, too, are the delivery's
	channel   string
	ephemeral bool
	keyed     bool // it has an idempotency key
	sent      time.Time
	mark      mark
	answer    chan outcome // of the attempt under way; has room for one
	waits     bool         // for answer; otherwise ephemeral, or err is set
	err       error        // it could not be sent at all
}

// New makes a Publisher, which asks NATS nothing before Run. Close ends it.
func New(nc *nats.Conn, js jetstream.JetStream, cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Publisher, error) {
	pl, err := newPipeline(nc)
	if err != nil {
		return nil, err
	}
	st := newStream(nc, js, cfg, log)
	return &Publisher{nc: nc, pipeline: pl, stream: st, metrics: newMetrics(reg, pl.pending, st.state), log: log}, nil
}

// Run declares the stream, as often as it takes, watches it, and fails what waits
// when NATS goes away, until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { p.stream.run(ctx) })
	wg.Go(func() { p.pipeline.run(ctx) })
	wg.Wait()
}

// Close fails what still waits, and takes no more.
func (p *Publisher) Close() { p.pipeline.close() }

// Epoch is the stream's; empty before it is declared.
func (p *Publisher) Epoch() string {
	if l := p.stream.life.Load(); l != nil {
		return l.epoch
	}
	return ""
}

// Recheck reads the stream's state now, and declares the stream anew if it is
// gone.
func (p *Publisher) Recheck(ctx context.Context) error { return p.stream.check(ctx) }

// Ready says why nothing can be stored: the error is ErrNoStream before the
// stream is declared.
func (p *Publisher) Ready() error {
	if p.stream.life.Load() == nil {
		return ErrNoStream
	}
	return p.stream.err()
}

// Count counts a message that was not sent at all, by its status.
func (p *Publisher) Count(status string) { p.metrics.messages[status].Inc() }

// Send passes a checked publication's message for one of its channels to NATS
// without waiting for its acknowledgement; it blocks for stallWait at most,
// while the pipeline is full. Place is that of Origin.fill. The outcome, errors
// included, is Settle's to tell. Nothing of pub is kept.
func (p *Publisher) Send(o *Origin, pub *proto.Publication, channel string, place int) *Delivery {
	d, _ := p.spare.Get().(*Delivery)
	if d == nil {
		d = &Delivery{answer: make(chan outcome, 1)}
	}
	d.channel, d.ephemeral, d.sent = channel, pub.Ephemeral, time.Now()
	d.keyed = o.fill(&d.msg, pub, channel, place, d.sent)
	p.transmit(d)
	return d
}

func (p *Publisher) transmit(d *Delivery) {
	d.waits = false
	if d.ephemeral {
		// Without a reconnect buffer (natsx.Connect) this fails at once while
		// NATS is away, instead of keeping for later what is for now only.
		d.msg.Reply = ""
		d.err = p.nc.PublishMsg(&d.msg)
		return
	}
	if d.mark, d.err = p.stream.mark(); d.err == nil {
		d.err = p.pipeline.publish(&d.msg, d.answer)
		d.waits = d.err == nil
	}
}

// Settle waits until it is known what became of the message. A message with
// an idempotency key is sent again for a while, as NATS then stores it once;
// without one nothing is: the outcome of the first attempt is unknown. On an
// error the result is "failed", and the error a *proto.Problem.
func (p *Publisher) Settle(ctx context.Context, d *Delivery) (proto.Result, error) {
	res, err := p.await(ctx, d)
	for err != nil && transient(err) && d.keyed && time.Since(d.sent) < retryFor {
		select {
		case <-ctx.Done():
			err = ctx.Err()
			continue
		case <-time.After(retryEvery):
		}
		p.metrics.retries.Inc()
		if p.nc.IsConnected() {
			p.transmit(d)
			res, err = p.await(ctx, d)
		}
	}
	took := time.Since(d.sent)
	p.metrics.messages[res.Status].Inc()
	if err != nil {
		err = p.problem(d, err)
		p.release(d)
		return res, err
	}
	if !d.ephemeral {
		p.metrics.ack.Observe(took.Seconds())
	}
	if p.log.Enabled(ctx, slog.LevelDebug) {
		p.log.DebugContext(ctx, "message published", "channel", d.channel, "status", res.Status, "id", res.ID, "took", took,
			"request", httpx.RequestIDOf(ctx), "trace", tracing.TraceID(d.msg.Header.Get(proto.HeaderTraceparent)))
	}
	p.release(d)
	return res, nil
}

// maxSpare bounds what a delivery keeps for the next message: an array of
// large ones must not hold their memory for ever.
const maxSpare = 4 << 10

// release gives a settled delivery back. One whose answer is still to come,
// because the request ended before, is left to it.
func (p *Publisher) release(d *Delivery) {
	if d.waits || cap(d.msg.Data) > maxSpare {
		return
	}
	d.mark, d.err = mark{}, nil
	p.spare.Put(d)
}

// await waits for one attempt's acknowledgement.
func (p *Publisher) await(ctx context.Context, d *Delivery) (proto.Result, error) {
	res := proto.Result{Status: proto.StatusFailed, Channel: d.channel}
	if d.err != nil {
		return res, d.err
	}
	if d.ephemeral {
		res.Status = proto.StatusSent
		return res, nil
	}
	var out outcome
	select {
	case out = <-d.answer:
	default: // the choice below costs more, and most often there is none left
		select {
		case out = <-d.answer:
		case <-ctx.Done():
			return res, ctx.Err()
		}
	}
	d.waits = false
	if out.err != nil {
		return res, out.err
	}
	id, err := p.stream.id(ctx, &jetstream.PubAck{Sequence: out.seq, Duplicate: out.duplicate}, d.mark)
	if err != nil {
		return res, err
	}
	res.ID, res.Status = id, proto.StatusStored
	if out.duplicate {
		res.Status = proto.StatusDuplicate
	}
	return res, nil
}

// Error codes of JetStream (nats-server's server/errors.json).
const (
	codeTooLarge          = 10054 // the message is above the stream's own limit
	codeDuplicateInFlight = 10158 // the same message id is being stored at this moment
)

// transient reports whether the same attempt may succeed a moment later.
func transient(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode == codeDuplicateInFlight
	}
	return Disconnected(err) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, errEpoch) || errors.Is(err, errStore)
}

// Disconnected reports whether err says that NATS is away.
func Disconnected(err error) bool {
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionReconnecting)
}

// problem is what the publisher of a message is told that was not stored.
// Warnings are for what an operator could not see from the connection's state.
func (p *Publisher) problem(d *Delivery, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, errEpoch):
		return proto.ProblemNotStored.With("the stream was made anew meanwhile, or does not answer")
	case errors.Is(err, context.Canceled):
		return proto.ProblemNotStored.With("the request ended before NATS acknowledged the message")
	case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &api) && api.ErrorCode == codeTooLarge:
		return proto.ProblemTooLarge.With("the message is larger than NATS takes")
	case Disconnected(err), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return proto.ProblemNotStored.With("NATS is not connected")
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, ErrNoStream):
		return proto.ProblemNotStored.With("NATS has no stream to store it in at the moment")
	case errors.Is(err, jetstream.ErrTooManyStalledMsgs):
		return proto.ProblemNotStored.With(fmt.Sprintf("%d messages wait for NATS already", maxPending))
	case errors.Is(err, errStore): // said where it was noticed
		return proto.ProblemNotStored.With("NATS cannot write to its disk at the moment; /readyz says why")
	case errors.Is(err, jetstream.ErrAsyncPublishTimeout):
		p.stream.missed()
		p.Warn("NATS did not acknowledge a message", "channel", d.channel, "took", time.Since(d.sent))
		return proto.ProblemNotStored.With("NATS did not acknowledge it in time; it may be stored all the same")
	}
	p.Warn("NATS refused a message", "channel", d.channel, "err", err)
	return proto.ProblemNotStored.With("NATS refused it")
}

// Warn logs at most once a second: what goes wrong for one message goes wrong
// for thousands.
func (p *Publisher) Warn(msg string, args ...any) {
	now, last := time.Now().Unix(), p.warned.Load()
	if now != last && p.warned.CompareAndSwap(last, now) {
		p.log.Warn(msg, args...)
	}
}

// MaxData is the largest data that is accepted now: the setting, or what the
// connected server takes if that is less.
func (p *Publisher) MaxData(limit int) int {
	if payload := p.stream.payload.Load(); payload > 0 {
		return min(limit, max(0, int(payload)-envelopeBytes))
	}
	return limit
}

// Settled reports whether Settle returns at once.
func (d *Delivery) Settled() bool { return !d.waits || len(d.answer) > 0 }

// Unsent reports whether the message could not be sent at all. Whether that is
// the end of it Settle says.
func (d *Delivery) Unsent() bool { return d.err != nil }
