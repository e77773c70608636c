package logger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/herald-push/herald/services/logger/internal/store"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// durable is the consumer's name in the stream.
const durable = "logger"

const (
	// maxAckPending bounds what is delivered and not acknowledged: eight full
	// batches, so that NATS has the next ones ready while one is committed.
	maxAckPending = 8192
	// ackWait is when NATS delivers again what was not acknowledged. A batch
	// that waits longer, for room on the disk, comes twice; the primary key
	// takes care of that.
	ackWait = 30 * time.Second
	// batchRows and batchBytes end a batch, batchWait does so when it is quiet.
	batchRows  = 1000
	batchBytes = 8 << 20
	batchWait  = 50 * time.Millisecond
	// pullBytes are asked for ahead, and so wait here at most: packs differ in size by a factor of a thousand.
	pullBytes = 2 * batchBytes
	// intakePacks wait besides, between nats.go and the batcher.
	intakePacks = 16
)

// timing is what tests make shorter.
type timing struct {
	ackWait   time.Duration
	heartbeat time.Duration // NATS says so often that it is there
	check     time.Duration // between two looks at the consumer
	stall     time.Duration // silence that is suspicious while messages wait
	retry     time.Duration // before the next attempt to write, or to attach
}

var defaultTiming = timing{ackWait: ackWait, heartbeat: 5 * time.Second, check: 5 * time.Second,
	stall: 15 * time.Second, retry: time.Second}

// consumer moves messages from the stream to the store.
type consumer struct {
	// Fixed after newConsumer.
	nc      *nats.Conn
	js      jetstream.JetStream
	metrics *metrics
	log     *slog.Logger
	timing  timing
	pulse   *natsx.Pulse // of the stream
	store   *store.Store // set before run

	// attached says that a session runs; broken holds why writing fails, nil
	// while it works. Set by run's goroutine, read by readiness.
	attached atomic.Bool
	broken   atomic.Pointer[error]
}

func newConsumer(nc *nats.Conn, js jetstream.JetStream, m *metrics, log *slog.Logger) *consumer {
	return &consumer{nc: nc, js: js, metrics: m, log: log, timing: defaultTiming, pulse: natsx.NewPulse(nc, log)}
}

// fault says why messages are not being logged; nil means that they are.
func (c *consumer) fault() error {
	if err := c.broken.Load(); err != nil {
		return *err
	}
	if !c.attached.Load() {
		return errNotReading
	}
	return nil
}

// reachable says why the stream does not answer; nil means that it does.
func (c *consumer) reachable() error {
	if !c.attached.Load() {
		return errNotReading
	}
	return c.pulse.Err()
}

// run reads the stream until ctx ends, after the last commit.
func (c *consumer) run(ctx context.Context) {
	var failed retry.Row // errors since the stream was last read
	for ctx.Err() == nil {
		err := c.follow(ctx)
		if c.attached.Swap(false) {
			failed.End()
		}
		c.metrics.oldest.Store(0) // what was in hand comes again
		if ctx.Err() != nil {
			return
		}
		switch {
		case errors.Is(err, errMoved):
			continue
		case errors.Is(err, errStalled):
			c.metrics.stalls.Inc()
			c.log.Warn("the stream has messages but delivers none; asking anew")
			continue
		case failed.New(err):
			c.log.Warn("the stream cannot be read now; trying again", "err", err)
		}
		c.pulse.Missed(err)
		_ = retry.Pause(ctx, c.timing.retry) // fails only when ctx ends
	}
}

// attachment is the consumer while it reads one life of the stream.
type attachment struct {
	*consumer
	epochs  natsx.Epochs
	process string // id of the nats-server process whose messages these epochs are of
	stream  jetstream.Stream
	durable jetstream.Consumer
	// waiting is since when NATS is waited for, monotonic.Now; 0 while the
	// batcher is. Set by the callback, read by the batcher.
	waiting atomic.Int64
}

// follow attaches to the stream and logs it until ctx ends or the consumer
// is lost; the error says how.
func (c *consumer) follow(ctx context.Context) error {
	stream, err := natsx.AwaitStream(ctx, c.js, c.pulse, c.log)
	if err != nil {
		return err
	}
	s := &attachment{consumer: c}
	if stream, err = s.awaitEpoch(ctx, stream); err != nil {
		return err
	}
	s.stream = stream
	if err := s.attach(ctx, stream); err != nil {
		return err
	}
	in := &intake{messages: make(chan jetstream.Msg, intakePacks), abandoned: make(chan struct{}),
		other: make(chan struct{})}
	pull, err := s.durable.Consume(func(m jetstream.Msg) { s.receive(in, m) },
		jetstream.PullMaxBytes(pullBytes), jetstream.PullHeartbeat(c.timing.heartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			in.err.Store(&err)
			s.log.Debug("the pull reports an error", "err", err) // it asks anew, or ends; check looks after the rest
		}))
	if err != nil {
		return fmt.Errorf("pull from consumer %s: %w", durable, err)
	}
	in.ended = pull.Closed()
	s.waiting.Store(monotonic.Now())
	c.attached.Store(true)
	c.log.Info("reading the stream", "stream", proto.Stream, "epoch", s.epochs.Newest())

	err = s.batch(ctx, pull, in)
	close(in.abandoned)
	pull.Stop()
	<-in.ended
	if errors.Is(err, errPullEnded) {
		if why := in.err.Load(); why != nil {
			err = *why
		}
		return fmt.Errorf("pull from consumer %s: %w", durable, err)
	}
	return err
}

// epochWait is how long ingest may take to begin an epoch for a server that
// was started anew. It publishes nothing before.
const epochWait = 3 * time.Second

func (s *attachment) awaitEpoch(ctx context.Context, stream jetstream.Stream) (jetstream.Stream, error) {
	for deadline := time.Now().Add(epochWait); !natsx.EpochsOf(stream.CachedInfo()).Covers(s.nc) &&
		time.Now().Before(deadline); {
		_ = retry.Pause(ctx, 50*time.Millisecond) // AwaitStream returns ctx's error
		var err error
		if stream, err = natsx.AwaitStream(ctx, s.js, s.pulse, s.log); err != nil {
			return nil, err
		}
	}
	return stream, nil
}

// intake is between the callback of nats.go, which fills it, and the batcher.
// nats.go keeps what the callback has no time for, within what was asked for;
// the other way to pull, an iterator, has room for exactly as many messages,
// and drops some when heartbeats stand between them.
type intake struct {
	messages  chan jetstream.Msg // never closed
	abandoned chan struct{}      // closed at the end of the attachment: nobody receives messages any more
	ended     <-chan struct{}    // closed by nats.go after the last callback
	other     chan struct{}      // closed by receive: messages come from another process
	moved     sync.Once
	err       atomic.Pointer[error] // the last that the pull reported
}

// attach finds the durable consumer, or makes it where the log ends.
func (s *attachment) attach(ctx context.Context, stream jetstream.Stream) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	info := stream.CachedInfo() // AwaitStream just asked for it
	accounted, err := s.begin(ctx, info)
	if err != nil {
		return err
	}
	from := accounted + 1
	old, err := stream.Consumer(ctx, durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case err != nil:
		return fmt.Errorf("look for consumer %s: %w", durable, err)
	default:
		// What is acknowledged and not in the file is in a file that was lost
		// or replaced. While the stream has it, it is read again.
		floor := old.CachedInfo().AckFloor.Stream
		// What a server lost that was started anew is acknowledged, too: of its
		// sequences none is stored yet.
		missing, ok, err := s.missing(ctx, min(floor, info.State.LastSeq))
		if err != nil {
			return err
		}
		if !ok {
			s.durable, err = stream.UpdateConsumer(ctx, s.limits(old.CachedInfo().Config))
			return wrap(err, "update consumer %s", durable)
		}
		s.log.Warn("the log lacks messages that were acknowledged; reading the stream again from there", "seq", missing)
		if err := stream.DeleteConsumer(ctx, durable); err != nil {
			return fmt.Errorf("delete consumer %s: %w", durable, err)
		}
		from = missing
	}
	s.durable, err = stream.CreateConsumer(ctx, s.config(from))
	return wrap(err, "make consumer %s", durable)
}

// begin makes the stream's epochs known to the log, and returns the sequence up
// to which everything is logged or counted as a hole. A log that has been
// running before misses what the stream lost before the session began; a new one
// begins with what the stream has.
func (s *attachment) begin(ctx context.Context, info *jetstream.StreamInfo) (accounted uint64, err error) {
	s.epochs, s.process = natsx.EpochsOf(info), s.nc.ConnectedServerId()
	known, err := s.store.Epochs(ctx)
	if err != nil {
		s.note(explain(err))
		return 0, err
	}
	kept := uint64(1)
	if len(known) == 0 {
		kept = info.State.FirstSeq
	} else if kept, err = s.beforePacks(ctx, info); err != nil {
		return 0, err
	}
	complete := true // so far
	for _, e := range s.epochs.All() {
		account, err := s.store.Begin(ctx, e.Name, max(e.From, kept), s.epochs.Names()...)
		s.note(explain(err))
		if err != nil {
			return 0, err
		}
		if complete {
			accounted = min(account.Accounted, e.Through)
		}
		complete = complete && accounted == e.Through
	}
	return accounted, nil
}

// beforePacks is the first stream sequence that the log has not written under
// the epoch that the stream had when each message was stored by itself: then an
// id had the stream's creation for its epoch and the sequence for its number.
// With packs the whole stream got another epoch, and without this its messages
// would be logged once more.
func (s *attachment) beforePacks(ctx context.Context, info *jetstream.StreamInfo) (uint64, error) {
	created, first := proto.EpochOf(info.Created), s.epochs.All()[0]
	if first.Name == created || first.From != 1 {
		return 1, nil
	}
	last, err := s.store.LastSeq(ctx, created)
	if err != nil {
		s.note(explain(err))
		return 0, err
	}
	return last + 1, nil
}

// missing is the first acknowledged sequence that the log does not have.
func (s *attachment) missing(ctx context.Context, acknowledged uint64) (seq uint64, ok bool, err error) {
	for _, e := range s.epochs.All() {
		seq, ok, err = s.store.Missing(ctx, e.Name, min(acknowledged, e.Through))
		if ok || err != nil {
			return seq, ok, err
		}
	}
	return 0, false, nil
}

// account counts the holes in what is acknowledged.
func (s *attachment) account(ctx context.Context, acknowledged uint64) (holes uint64, err error) {
	for _, e := range s.epochs.All() {
		n, err := s.store.Account(ctx, e.Name, min(acknowledged, e.Through))
		holes += n
		if err != nil {
			return holes, err
		}
	}
	return holes, nil
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

func (s *attachment) config(from uint64) jetstream.ConsumerConfig {
	return s.limits(jetstream.ConsumerConfig{
		Durable:       durable,
		Description:   "Herald's log: acknowledged means that it is in the file",
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   max(1, from),
		// Each by itself: acknowledging all up to one would also acknowledge
		// what was lost on the way here, in a reconnect, and never came.
		AckPolicy: jetstream.AckExplicitPolicy,
	})
}

// limits sets what may be changed of a consumer that is there already.
func (s *attachment) limits(cfg jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	cfg.AckWait = s.timing.ackWait
	cfg.MaxDeliver = -1 // a full disk must not use up the attempts
	cfg.MaxAckPending = maxAckPending
	cfg.FilterSubject = "" // before there were packs it was that of single messages
	return cfg
}

// receive is the callback. What comes from another nats-server process than
// before is of an epoch that is not known yet: it ends the session, and NATS
// delivers the message again, to the next one. It blocks while the batcher is busy; NATS then sends
// no more than was asked for.
func (s *attachment) receive(in *intake, m jetstream.Msg) {
	s.waiting.Store(0)
	if process := s.nc.ConnectedServerId(); process != "" && process != s.process {
		in.moved.Do(func() { close(in.other) })
		_ = m.Nak() // while NATS is away it delivers it again by itself
		return
	}
	select {
	case in.messages <- m:
		s.waiting.Store(monotonic.Now())
	case <-in.abandoned:
	}
}

// errNotReading: no session is attached to the stream.
var errNotReading = errors.New("the stream is not being read yet")

// Errors that end a session.
var (
	errPullEnded = errors.New("the pull ended")
	errStalled   = errors.New("the consumer stalls")
	errMoved     = errors.New("messages come from another NATS server")
)
