// Package publish stores the messages of ingest's requests in the stream.
//
// Guarantees. A message that Settle reports as stored was acknowledged by JetStream. Messages of
// one channel that are sent one after the other stand in the stream in that order.
// While NATS is away, or elects a leader, messages wait in memory, for Patience at
// most, and are then stored, once; no longer. Send blocks for half a second at
// most, while too many wait. Ephemeral messages do not wait.
package publish

import (
	"cmp"
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

// envelopeBytes is room within NATS's max_payload for what surrounds the data:
// channel, event and sender (519 bytes at most) with their JSON, what only Herald
// reads, and the headers, of which the message id may have 1.1 KB.
const envelopeBytes = 4 << 10

// MaxWindow is how many messages that are not acknowledged one request may
// have, so that a long stream leaves room for others.
const MaxWindow = 512

// Config has the settings of a Publisher.
type Config struct {
	Stream natsx.StreamConfig
	// Recheck is how often the stream is looked at; see recheckEvery, which is
	// what 0 means.
	Recheck time.Duration
	// Store says why nothing can be stored at the moment; nil asks NATS.
	Store func() error
	// Patience is how long after it was accepted a message is given up; 0 is
	// Patience.
	Patience time.Duration
}

// Publisher stores messages. Safe for concurrent use.
type Publisher struct {
	lane    *lane
	stream  *stream
	metrics *metrics
	log     *slog.Logger
	warned  atomic.Int64 // Unix second of the last warning
	spare   sync.Pool    // of *Delivery: those that are settled

	accepted atomic.Pointer[accepted] // how the newest messages were accepted; nil: nobody asks
}

// Delivery is one message under way. It is used again for another one: Settle
// is the last that may be called with it.
type Delivery struct {
	flight    *flight // nil: err
	place     int     // in the flight
	channel   string
	source    string
	trace     string
	ephemeral bool
	keyed     bool // it has an idempotency key
	accepted  time.Time
	err       error // it could not be sent at all
}

// New makes a Publisher, which asks NATS nothing before Run. Close ends it.
func New(nc *nats.Conn, js jetstream.JetStream, cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Publisher,
	error) {
	p := &Publisher{stream: newStream(nc, js, cfg, log), log: log}
	p.metrics = newMetrics(reg, func() int { return p.lane.pending() }, p.stream)
	var err error
	p.lane, err = newLane(nc, p.stream, p.metrics, cmp.Or(cfg.Patience, Patience), log)
	return p, err
}

// Run declares the stream, as often as it takes, watches it, and sends again
// what NATS did not acknowledge, until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { p.stream.run(ctx) })
	wg.Go(func() { p.lane.run(ctx) })
	wg.Wait()
}

// Limit changes how long and how much the stream keeps. It returns at once; the stream
// is changed as soon as NATS does, which may refuse it for want of room: the log says so
// then, and it is tried again.
func (p *Publisher) Limit(maxAge time.Duration, maxBytes int64) { p.stream.limit(maxAge, maxBytes) }

// Close fails what still waits to be stored, and stores nothing more. Ephemeral messages
// are sent as long as the connection lasts.
func (p *Publisher) Close() { p.lane.close() }

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
		if err := p.stream.storeFault(); err != nil {
			return fmt.Errorf("%w: %w", ErrNoStream, err)
		}
		return ErrNoStream
	}
	return p.stream.err()
}

// Count counts a message that was not sent at all, by its status.
func (p *Publisher) Count(status string) { p.metrics.messages[status].Inc() }

// Send accepts a checked publication's message for one of its channels, and
// does not wait until it is stored; it blocks for stallWait at most, while too many
// messages wait. It shares a pack with those that are sent before the next Settle.
// Place is that of Origin.msgID. Settle returns the outcome, errors
// included. Nothing of pub is kept.
func (p *Publisher) Send(o *Origin, pub *proto.Publication, channel string, place int) *Delivery {
	d, _ := p.spare.Get().(*Delivery)
	if d == nil {
		d = &Delivery{}
	}
	now := time.Now()
	*d = Delivery{channel: channel, source: o.Source, trace: o.Traceparent, ephemeral: pub.Ephemeral, accepted: now}
	m := proto.Message{Channel: channel, Event: pub.Event, Data: pub.Data, Sender: o.Sender}
	private := proto.Private{Source: o.Source, Accepted: now, Traceparent: o.Traceparent, Except: pub.Except}
	if pub.Ephemeral {
		d.flight = p.lane.addLive(&m, private)
		return d
	}
	if pub.TTL > 0 {
		private.Expires = now.Add(time.Duration(pub.TTL) * time.Second)
	}
	if _, d.err = p.stream.mark(); d.err != nil { // nobody knows whether there will be a stream
		return d
	}
	msgID := o.msgID(pub.ID, channel, place)
	d.keyed = msgID != ""
	d.flight, d.place, d.err = p.lane.add(&m, private, msgID)
	return d
}

// Settle waits until it is known what became of the message; that takes Patience
// at most, also if the request has ended before: the message is stored all the same, and
// counted. On an error the result is "failed", and the error a *proto.Problem. ctx
// is for the log.
func (p *Publisher) Settle(ctx context.Context, d *Delivery) (proto.Result, error) {
	res, err := p.await(d)
	took := time.Since(d.accepted)
	p.metrics.messages[res.Status].Inc()
	switch {
	case err != nil:
		err = p.problem(d, err)
	case !d.ephemeral:
		p.metrics.ack.Observe(took.Seconds())
	}
	if err == nil && p.log.Enabled(ctx, slog.LevelDebug) {
		p.log.DebugContext(ctx, "message published", "channel", d.channel, "status", res.Status, "id", res.ID, "took",
			took,
			"request", httpx.RequestIDOf(ctx), "trace", tracing.TraceID(d.trace))
	}
	if a := p.accepted.Load(); a != nil && res.ID != "" {
		a.keep(Accepted{ID: res.ID, Request: httpx.RequestIDOf(ctx), Source: d.source, Time: d.accepted})
	}
	if d.flight != nil {
		p.lane.release(d.flight)
	}
	*d = Delivery{}
	p.spare.Put(d)
	return res, err
}

// await waits until the message has landed.
func (p *Publisher) await(d *Delivery) (proto.Result, error) {
	res := proto.Result{Status: proto.StatusFailed, Channel: d.channel}
	if d.err != nil {
		return res, d.err
	}
	f := d.flight
	if !d.Settled() {
		if d.ephemeral {
			p.lane.pushLive(f)
		} else {
			p.lane.dispatch()
		}
		<-f.done
	}
	switch {
	case f.err != nil:
		return res, f.err
	case d.ephemeral:
		res.Status = proto.StatusSent
		return res, nil
	}
	res.ID, res.Status = proto.Cursor{Epoch: f.epoch, Seq: proto.Number(f.seq, d.place)}.String(), proto.StatusStored
	if f.duplicate && d.keyed {
		res.Status = proto.StatusDuplicate
	}
	return res, nil
}

// Error codes of JetStream (nats-server's server/errors.json).
const (
	codeTooLarge          = 10054 // the message is above the stream's own limit
	codeDuplicateInFlight = 10158 // the same message id is being stored at this moment
	codeUnavailable       = 10008 // "JetStream system temporarily unavailable"
)

// inFlight reports whether another attempt with the same message id is being
// stored at this moment.
func inFlight(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeDuplicateInFlight
}

// transient reports whether the same attempt may succeed a moment later.
func transient(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode == codeUnavailable
	}
	return Disconnected(err) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, errEpoch) ||
		errors.Is(err, errStore) ||
		errors.Is(err, jetstream.ErrInvalidJSAck) // whatever that says, it does not say what became of the message
}

// Disconnected reports whether err says that NATS is away.
func Disconnected(err error) bool {
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded) ||
		errors.Is(err, nats.ErrConnectionReconnecting)
}

// problem says to the publisher why a message was not stored, as a
// *proto.Problem. It logs what an operator could not see from the connection's state.
func (p *Publisher) problem(d *Delivery, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, errUnknown): // before the reasons for the last attempt
		p.Warn("NATS did not acknowledge a message", "channel", d.channel, "took", time.Since(d.accepted))
		return proto.ProblemNotStored.With(errUnknown.Error())
	case errors.Is(err, errEpoch):
		return proto.ProblemNotStored.With("the stream was made anew meanwhile, or does not answer")
	case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &api) && api.ErrorCode == codeTooLarge:
		return proto.ProblemTooLarge.With("the message is larger than NATS takes")
	case Disconnected(err), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return proto.ProblemNotStored.With("NATS is not connected")
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, ErrNoStream):
		return proto.ProblemNotStored.With("NATS has no stream to store it in at the moment")
	case errors.Is(err, jetstream.ErrTooManyStalledMsgs):
		return proto.ProblemNotStored.With("too many messages wait for NATS already")
	case errors.Is(err, errStore): // said where it was noticed
		return proto.ProblemNotStored.With("NATS cannot write to its disk at the moment; /readyz says why")
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
// connected server accepts if that is less.
func (p *Publisher) MaxData(limit int) int {
	if payload := p.stream.payload.Load(); payload > 0 {
		return min(limit, max(0, int(payload)-envelopeBytes))
	}
	return limit
}

// Settled reports whether Settle returns at once.
func (d *Delivery) Settled() bool {
	if d.err != nil {
		return true
	}
	select {
	case <-d.flight.done:
		return true
	default:
		return false
	}
}

// Unsent reports whether the message could not be sent at all. Then the messages
// behind it should not be sent either.
func (d *Delivery) Unsent() bool { return d.err != nil }
