package publish

import (
	"context"
	"fmt"
)

// unsure reports whether NATS was away since the epochs were read, or whether
// one for this server could not be begun yet.
func (s *stream) unsure() bool {
	process, l := s.process.Load(), s.life.Load()
	return s.outages.Load() != s.cleared.Load() || process == nil || *process != s.nc.ConnectedServerId() || l != nil &&
		!l.epochs.Covers(s.nc)
}

// mark is where the stream stands. Errors are ErrNoStream, and errStore while
// NATS would leave a message unanswered.
func (s *stream) mark() (mark, error) {
	if err := s.storeFault(); err != nil {
		return mark{}, err
	}
	l := s.life.Load()
	if l == nil {
		return mark{}, ErrNoStream
	}
	return mark{l, l.last.Load()}, nil
}

// departure is mark for a message that is sent now. After NATS was away none is
// sent before it is known to which epoch the sequences of a restarted server belong:
// the error is errEpoch until then.
func (s *stream) departure() (mark, error) {
	if s.unsure() {
		s.doubt()
		return mark{}, errEpoch
	}
	return s.mark()
}

// certain reports whether an acknowledgement of what was sent at m is of m's
// life of the stream, and notes its sequence. Otherwise epoch has to ask.
func (s *stream) certain(out outcome, m mark) bool {
	// A sequence that is not above one that was stored before: the stream was made anew in between. The sequence of
	// a duplicate is the first one's, old as it may be.
	wentBack := !out.duplicate && out.seq <= m.last
	if wentBack || s.unsure() || s.life.Load() != m.life {
		return false
	}
	m.life.raise(out.seq)
	if s.overdue.Load() != 0 {
		s.overdue.Store(0)
	}
	return true
}

// epoch is the epoch of what was sent at m and acknowledged. It asks NATS first if
// the epoch is in doubt. The error wraps errEpoch: the id would be a guess.
func (s *stream) epoch(ctx context.Context, out outcome, m mark) (string, error) {
	wentBack := !out.duplicate && out.seq <= m.last
	if wentBack || s.unsure() {
		if err := s.check(ctx); err != nil {
			return "", fmt.Errorf("%w: %w", errEpoch, err)
		}
	}
	l := s.life.Load()
	if l != m.life && !wentBack {
		return "", errEpoch
	}
	l.raise(out.seq)
	s.overdue.Store(0)
	return l.epochs.At(out.seq), nil
}

// doubt asks run to read the stream's state soon. It does not block.
func (s *stream) doubt() {
	select {
	case s.doubted <- struct{}{}:
	default:
	}
}
