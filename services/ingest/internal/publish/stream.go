package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// stream is what ingest knows of the stream HERALD: that it is declared, and
// its epoch, without which a sequence is no id. A stream may be deleted and
// made anew while ingest runs, and its sequences then start again at 1; so
// the epoch is read again whenever there is a reason to doubt it:
//
//   - NATS was away: before the first id after it is handed out;
//   - an acknowledged sequence is not above one that was acknowledged before
//     the message was sent, which cannot be in one life of a stream;
//   - every recheckEvery, in the background.
//
// Safe for concurrent use.
type stream struct {
	// Fixed after newStream.
	nc    *nats.Conn
	js    jetstream.JetStream
	every time.Duration // recheckEvery
	log   *slog.Logger
	pulse *natsx.Pulse // of the stream
	store func() error // why nothing can be stored; nil: NATS is asked

	limits  atomic.Pointer[natsx.StreamConfig] // what the stream is to keep
	limited atomic.Bool                        // limits have changed since the stream was declared
	life    atomic.Pointer[life]               // nil until the stream is declared
	// found is the stream's state when it was last read; nil until then.
	found atomic.Pointer[jetstream.StreamState]
	// refusal is why JetStream stores no messages; nil while it does.
	refusal atomic.Pointer[string]
	// overdue is when an acknowledgement was last found missing, by
	// monotonic.Now; 0 once one has come since.
	overdue atomic.Int64
	// payload is what the connected server accepts (max_payload), read with it;
	// 0 until then. The connection would be asked under a lock that it holds
	// while it writes.
	payload   atomic.Int64
	clustered atomic.Bool // the stream has replicas
	// current is how many servers keep the stream and are up to date.
	current atomic.Int64
	// outages counts how often NATS was away, cleared those that came before
	// the epoch was read: it is in doubt while they differ.
	outages, cleared atomic.Uint64
	// process is the id of the nats-server process that gave the epochs.
	process atomic.Pointer[string]

	// doubted holds one token when the stream is to be looked at; never closed.
	doubted chan struct{}

	// turn holds one token for whoever asks NATS: a lock that a context can
	// stop waiting for. begun and known number the checks: the newest begun,
	// and the newest that succeeded.
	turn chan struct{}
	// behind is since when the leader has less than was acknowledged, by monotonic.Now; 0: it
	// has all. It belongs to who holds turn.
	behind       int64
	begun, known atomic.Uint64
}

// life is the time of one epoch of the stream.
type life struct {
	epoch  string // the newest of epochs
	epochs natsx.Epochs
	last   atomic.Uint64 // the highest sequence known to be stored
}

// raise raises last.
func (l *life) raise(seq uint64) {
	for {
		old := l.last.Load()
		if seq <= old || l.last.CompareAndSwap(old, seq) {
			return
		}
	}
}

// mark is where the stream stood when a message was sent.
type mark struct {
	life *life
	last uint64
}

const (
	// recheckEvery bounds how long a stream that was made anew goes unnoticed
	// if nothing else gives it away.
	recheckEvery = 5 * time.Second
	// declareEvery is how often ingest tries to declare the stream until NATS
	// answers.
	declareEvery = 500 * time.Millisecond
	// overdueFor is for how long ingest is not ready after an acknowledgement
	// did not come, unless another one comes: longer than ackTimeout, so that
	// it stays unready while publishers go on trying. Then it is ready, and the next
	// publisher tries: without publishers there is nothing to tell it by.
	overdueFor = 15 * time.Second
	// othersBegin is how long ingest waits, once it has begun an epoch, before it
	// believes that no other ingest overwrites it with one of its own: all read the
	// stream and change it within milliseconds of their reconnect.
	othersBegin = 100 * time.Millisecond
	// askTimeout bounds one question to JetStream.
	askTimeout = 5 * time.Second
)

// Errors of stream.
var (
	// ErrNoStream: the stream is not declared yet.
	ErrNoStream = errors.New("the stream is not declared yet")
	// errEpoch: the stream was made anew while the message was under way, so
	// that the acknowledgement may be of either life; or nobody can tell.
	errEpoch = errors.New("the epoch of an acknowledged message is not known")
	// errBehind: the leader of a cluster has less of the stream than was acknowledged. It
	// has to catch up, or the cluster has lost messages; until it is known which nothing
	// is published, whose id might be that of a message that is lost.
	errBehind = errors.New("the leader does not have all of the stream")
	// errStore: nothing can be stored at the moment; NATS would not answer.
	errStore = errors.New("the store takes no messages")
)

func newStream(nc *nats.Conn, js jetstream.JetStream, cfg Config, log *slog.Logger) *stream {
	s := &stream{nc: nc, js: js, every: cmp.Or(cfg.Recheck, recheckEvery), store: cfg.Store, log: log,
		pulse: natsx.NewPulse(nc, log), turn: make(chan struct{}, 1), doubted: make(chan struct{}, 1)}
	s.limits.Store(&cfg.Stream)
	return s
}

// config is what the stream is to keep.
func (s *stream) config() natsx.StreamConfig { return *s.limits.Load() }

// limit changes what the stream is to keep; run declares it so.
func (s *stream) limit(maxAge time.Duration, maxBytes int64) {
	cfg := s.config()
	cfg.MaxAge, cfg.MaxBytes = maxAge, maxBytes
	s.limits.Store(&cfg)
	s.limited.Store(true)
	select {
	case s.doubted <- struct{}{}:
	default: // it is to be looked at anyway
	}
}

// run declares the stream, as often as it takes, and keeps the epoch true
// until ctx ends.
func (s *stream) run(ctx context.Context) {
	status := s.nc.StatusChanged(nats.RECONNECTING, nats.CONNECTED)
	defer s.nc.RemoveStatusListener(status)
	unserve, failed := natsx.ServeLosses(s.nc, s.js, s.config, s.log, s.renewed)
	if failed != nil {
		s.log.Error("losses of the stream that others report are not heard of", "err", failed)
	} else {
		defer unserve()
	}
	if stop, err := natsx.ServeKnown(s.nc, s.reached); err != nil {
		s.log.Error("others that start are not told how far the stream has got", "err", err)
	} else {
		defer stop()
	}
	var kept error // ErrLimitsKept: the stream has other limits than it should
	again := retry.Policy{
		Pause: declareEvery,
		Every: s.pulse.Missed,
		Where: s.nc.IsConnected, // an outage is logged by the connection itself
		Log:   func(err error) { s.log.Warn("the stream cannot be declared yet; trying again", "err", err) },
	}
	if again.Until(ctx, func(ctx context.Context) error {
		err := s.declare(ctx)
		if errors.Is(err, natsx.ErrLimitsKept) {
			kept = err
			s.log.Warn("the stream could not be changed; trying again", "err", err)
			return nil
		}
		return err
	}) != nil {
		return
	}
	s.log.Info("stream declared", "stream", proto.Stream, "epoch", s.life.Load().epoch)

	tick, warned := time.NewTicker(s.every), time.Time{}
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case state := <-status:
			if state != nats.CONNECTED {
				s.outages.Add(1)
				continue
			}
			s.overdue.Store(0) // it may be another server, or the same with a store that works
		case <-tick.C:
		case <-s.doubted:
		}
		if !s.nc.IsConnected() {
			continue
		}
		if err := s.check(ctx); err != nil && ctx.Err() == nil {
			// errBehind comes with each attempt to publish, so it is logged once per interval.
			if !errors.Is(err, errBehind) || time.Since(warned) >= s.every {
				warned = time.Now()
				s.log.Warn("the stream does not answer", "err", err)
			}
			s.pulse.Missed(err)
			continue
		}
		s.askStore(ctx)
		if limited := s.limited.Swap(false); (limited || kept != nil) && s.storeFault() == nil {
			if kept = s.declare(ctx); kept == nil {
				s.log.Info("the stream has the limits now that it should have")
			} else if limited && ctx.Err() == nil {
				s.log.Warn("the stream could not be changed; trying again", "err", kept)
			}
		}
	}
}

// renewed reads an epoch that another ingest has begun. No id is handed out before it was read.
func (s *stream) renewed(ctx context.Context) {
	s.outages.Add(1)
	if err := s.check(ctx); err != nil {
		s.log.Warn("the epoch that has begun is not known yet", "err", err)
		s.doubt()
	}
}

// declare brings the stream to the configuration and reads its state. The
// error is ErrLimitsKept alone if the stream can be used as it is.
func (s *stream) declare(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := natsx.CheckServer(s.nc); err != nil { // it may not have been there at the start
		return err
	}
	err := s.ensure(ask)
	if err != nil && !errors.Is(err, natsx.ErrLimitsKept) {
		return err
	}
	return cmp.Or(s.check(ask), err)
}

// ensure is natsx.EnsureStream. An epoch that has just begun is given time to be
// replaced by that of another ingest.
func (s *stream) ensure(ctx context.Context) error {
	epoch, err := natsx.EnsureStream(ctx, s.js, s.config())
	if err != nil && !errors.Is(err, natsx.ErrLimitsKept) {
		return err
	}
	if time.Since(natsx.EpochBegan(epoch)).Abs() < othersBegin {
		if err := retry.Pause(ctx, othersBegin); err != nil {
			return err
		}
	}
	return err
}

// check reads the stream's state, and declares the stream anew if it is gone.
// Callers that wait for each other share one answer, if it was asked for
// after they came.
func (s *stream) check(ctx context.Context) error {
	came := s.begun.Load()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.known.Load() > came {
		return nil
	}
	number, outages, process := s.begun.Add(1), s.outages.Load(), s.nc.ConnectedServerId()
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	info, err := s.read(ask, s.unsure())
	if err != nil {
		return fmt.Errorf("read the state of stream %s: %w", proto.Stream, err)
	}
	s.pulse.Answered(info.Cluster)
	epochs, old := natsx.EpochsOf(info), s.life.Load()
	now := &life{epoch: epochs.Newest(), epochs: epochs}
	if old != nil && old.epoch == now.epoch {
		now = old
	} else if old != nil {
		s.log.Info("ids are of another epoch from now on", "was", old.epoch, "epoch", now.epoch, "seq", epochs.Begins())
	}
	// Also downwards: a server may have lost its last writes in a power cut.
	now.last.Store(info.State.LastSeq)
	s.life.Store(now)
	s.found.Store(&info.State)
	s.payload.Store(s.nc.MaxPayload())
	s.clustered.Store(info.Cluster != nil && len(info.Cluster.Replicas) > 0)
	s.current.Store(current(info.Cluster))
	s.process.Store(&process)
	s.cleared.Store(outages)
	s.known.Store(number)
	return nil
}

// current counts, in an answer about the stream, the servers that keep it and are up to
// date; cluster is nil where there is a single one.
func current(cluster *jetstream.ClusterInfo) int64 {
	if cluster == nil {
		return 1
	}
	if cluster.Leader == "" {
		return 0
	}
	n := int64(1)
	for _, r := range cluster.Replicas {
		if r.Current && !r.Offline {
			n++
		}
	}
	return n
}

// state is the stream's when it was last read, some seconds ago at most while
// NATS answers; zero before.
func (s *stream) state() jetstream.StreamState {
	if found := s.found.Load(); found != nil {
		return *found
	}
	return jetstream.StreamState{}
}
