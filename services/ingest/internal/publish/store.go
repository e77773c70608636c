package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/herald-push/herald/services/internal/natsx"
)

// askStore asks NATS whether the stream's store still writes. A single server
// does not answer publishers once it has failed to; in a cluster another one
// leads then.
func (s *stream) askStore(ctx context.Context) {
	if s.store != nil || s.clustered.Load() {
		return
	}
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	fault, err := natsx.AskStore(ask, s.nc)
	switch {
	case err != nil:
		return // whether NATS answers is for check to say
	case fault == nil:
		if s.refusal.Swap(nil) != nil {
			s.log.Info("the store of NATS takes messages again")
		}
	default:
		reason := fault.Error()
		if s.refusal.Swap(&reason) == nil {
			s.log.Error("NATS cannot store; publishing answers 503 until it is restarted with room on its disk", "err",
				fault)
		}
	}
}

// storeFault says why nothing can be stored. The error wraps errStore.
func (s *stream) storeFault() error {
	if s.store != nil {
		if err := s.store(); err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
		return nil
	}
	if reason := s.refusal.Load(); reason != nil {
		return fmt.Errorf("%w: %s", errStore, *reason)
	}
	return nil
}

// missed notes that an acknowledgement did not come although NATS is
// connected.
func (s *stream) missed() { s.overdue.Store(monotonic.Now()) }

// err is why publishers are better sent to another ingest: the stream does not
// answer, or does not store.
func (s *stream) err() error {
	if err := s.storeFault(); err != nil {
		return err
	}
	if at := s.overdue.Load(); at != 0 && monotonic.Since(at) < overdueFor {
		return errors.New("NATS answers, and does not acknowledge messages")
	}
	return s.pulse.Err()
}
