package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// read asks for the stream's state. It declares the stream first if it is gone,
// or if the server may be another one, or have been started anew: then another
// epoch begins before anything is published to it. In a cluster an ingest that starts asks those who run how far
// the stream had got: all servers may have been restored from older copies, and only they can tell. If nobody knows,
// another epoch begins; if somebody knows of more than the leader has, the error is errBehind, and another begins after
// pulse.Late.
func (s *stream) read(ctx context.Context, doubt bool) (*jetstream.StreamInfo, error) {
	if doubt && s.life.Load() != nil { // the first time it was declared just now
		if err := s.ensure(ctx); err != nil && !errors.Is(err, natsx.ErrLimitsKept) {
			return nil, err
		}
	}
	old, acknowledged := s.life.Load(), uint64(0)
	var known natsx.Known
	var err error
	server, clustered := natsx.Process(s.nc)
	switch { // before the question: more may be stored meanwhile
	case old != nil:
		acknowledged = old.last.Load()
	case server == "":
		return nil, nats.ErrDisconnected
	case clustered:
		if known, err = natsx.AskKnown(ctx, s.nc); err != nil {
			return nil, err
		}
	}
	found, err := s.js.Stream(ctx, proto.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s.log.Warn("the stream is gone; declaring it anew", "stream", proto.Stream)
		if err = s.ensure(ctx); err == nil {
			found, err = s.js.Stream(ctx, proto.Stream)
		}
	}
	if err != nil {
		return nil, err
	}
	state := natsx.StateOf(found.CachedInfo())
	newest := state.Epochs.Newest()
	switch {
	case old != nil && newest != old.epoch:
		s.behind = 0
		return found.CachedInfo(), nil
	case old == nil && clustered && len(known) == 0 && state.Last > 0:
		s.log.Info("nobody else knows how far the stream had got; ids are of another epoch from now on",
			"seq", state.Last+1)
		return s.renew(ctx, newest)
	case old == nil:
		acknowledged = known.Last(newest)
	}
	if state.Last >= acknowledged {
		s.behind = 0
		return found.CachedInfo(), nil
	}
	if !state.Alone { // a leader may have to catch up
		if s.behind == 0 {
			s.behind = monotonic.Now()
		}
		if monotonic.Since(s.behind) < s.pulse.Late {
			return nil, fmt.Errorf("%w: it ends at %d, and %d was acknowledged", errBehind, state.Last, acknowledged)
		}
	}
	s.log.Error("the stream has lost messages that it had acknowledged; ids are of another epoch from now on", "seq",
		state.Last+1, "upto", acknowledged)
	return s.renew(ctx, newest)
}

// renew begins another epoch behind the one that may have lost its newest messages, and reads
// the stream's state again, when no other ingest that starts at the same time can have replaced the epoch by its own.
func (s *stream) renew(ctx context.Context, lost string) (*jetstream.StreamInfo, error) {
	if _, err := natsx.RenewEpoch(ctx, s.js, s.config(), lost); err != nil {
		return nil, err
	}
	if err := errors.Join(natsx.TellRenewed(s.nc), retry.Pause(ctx, othersBegin)); err != nil {
		return nil, err
	}
	found, err := s.js.Stream(ctx, proto.Stream)
	if err != nil {
		return nil, err
	}
	return found.CachedInfo(), nil
}

// reached is how far this ingest has seen the stream to get, for others that start.
func (s *stream) reached() (epoch string, seq uint64) {
	if l := s.life.Load(); l != nil {
		return l.epoch, l.last.Load()
	}
	return "", 0
}
