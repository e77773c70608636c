package logger

import (
	"context"
	"errors"
	"fmt"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/nats-io/nats.go/jetstream"
)

// check looks at the consumer: it keeps the account of holes, measures the
// lag, and notices when the consumer is gone or stalls (a pull that NATS
// forgot after a leader change: nats-server #5679, nats.go #2063).
func (s *attachment) check(ctx context.Context) error {
	info, err := s.look(ctx)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("look at consumer %s: %w", durable, err)
	case err != nil: // NATS is away, and the connection comes back by itself; or its server is cut off
		// NATS is away, so its silence says nothing: the wait for messages begins again.
		if since := s.waiting.Load(); since != 0 {
			s.waiting.CompareAndSwap(since, monotonic.Now())
		}
		return nil
	}
	holes, err := s.account(ctx, info.AckFloor.Stream)
	if err != nil {
		s.log.Debug("holes not counted", "err", err) // the next check does
	}
	if holes > 0 {
		s.metrics.holes.Add(float64(holes))
		s.log.Warn("the stream lost messages before they were logged", "messages", holes, "seq", info.AckFloor.Stream)
	}
	if s.stalls(info) {
		return errStalled
	}
	return nil
}

// look asks NATS about the consumer, and measures what waits.
func (s *attachment) look(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ask, cancel := context.WithTimeout(ctx, s.timing.check)
	defer cancel()
	info, err := s.durable.Info(ask)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, err
	case err != nil:
		s.log.Debug("consumer not seen", "err", err)
		s.pulse.Missed(err)
		return nil, err
	}
	s.pulse.Answered(info.Cluster)
	s.metrics.pending.Set(float64(info.NumPending) + float64(info.NumAckPending))
	s.metrics.waits.Store(s.waits(ask, info))
	return info, nil
}

// waits is when the stream stored the oldest message that is not acknowledged as
// logged, Unix nanoseconds; 0 if there is none, or if it cannot be said. It asks
// only while the batcher has nothing in hand.
func (s *attachment) waits(ctx context.Context, info *jetstream.ConsumerInfo) int64 {
	if info.NumPending+uint64(info.NumAckPending) == 0 || s.metrics.oldest.Load() != 0 {
		return 0
	}
	oldest, err := s.stream.GetMsg(ctx, info.AckFloor.Stream+1, jetstream.WithGetMsgSubject(proto.SubjectStored+">"))
	if err != nil {
		s.log.Debug("the oldest message that is not logged cannot be read", "err", err)
		return s.metrics.waits.Load()
	}
	return oldest.Time.UnixNano()
}

// stalls reports whether NATS has been silent for too long: there are
// messages that it may send, or some that it should have sent again.
func (s *attachment) stalls(info *jetstream.ConsumerInfo) bool {
	since := s.waiting.Load()
	if since == 0 { // a full disk holds the batcher: the silence is ours
		return false
	}
	silent := monotonic.Since(since)
	return info.NumPending > 0 && info.NumAckPending < maxAckPending && silent > s.timing.stall ||
		info.NumAckPending > 0 && silent > s.timing.ackWait+s.timing.stall
}
