package publish

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// acknowledged handles one acknowledgement. A number that is not in flight is of a flight
// that was given up, or was acknowledged before.
func (l *lane) acknowledged(m *nats.Msg) {
	number, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, l.prefix), 10, 64)
	if err != nil {
		return
	}
	out := readAck(m)
	l.mu.Lock()
	l.ackedAt = time.Now()
	switch f := l.out[number]; {
	case f == nil:
	case out.err != nil:
		l.failed(f, out.err)
	case l.stream.certain(out, f.mark):
		l.stored(f, f.mark.life.epochs.At(out.seq), out)
	default:
		f.refs.Add(1)
		mark := f.mark // that of another attempt may be there when ask runs
		l.asking.Go(func() { l.ask(f, number, out, mark) })
	}
	l.flushLocked()
	l.mu.Unlock()
}

// ask lands a flight whose acknowledgement may be of another life of the stream.
func (l *lane) ask(f *flight, number uint64, out outcome, m mark) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	epoch, err := l.stream.epoch(ctx, out, m)
	l.mu.Lock()
	if l.out[number] == f {
		if err != nil {
			l.failed(f, err)
		} else {
			l.stored(f, epoch, out)
		}
	}
	l.mu.Unlock()
	l.release(f)
	l.flush()
}

func (l *lane) stored(f *flight, epoch string, out outcome) {
	l.acked = max(l.acked, f.number)
	f.epoch, f.seq, f.duplicate = epoch, out.seq, out.duplicate
	l.land(f, nil)
	l.pump()
}

// failed notes that an attempt failed. What may succeed a moment later is sent
// again, before anything new; the rest has landed.
func (l *lane) failed(f *flight, err error) {
	switch {
	case l.out[f.number] != f: // given up meanwhile
	case inFlight(err): // of this one alone
		f.again = err
	case transient(err):
		f.again = err
		l.stop(err)
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			l.stream.doubt()
		}
	default:
		l.land(f, err)
		l.pump()
	}
}

// stop holds new flights back until those in flight have landed.
func (l *lane) stop(err error) {
	if l.trouble == nil {
		l.retry, l.pause = time.Now().Add(retryFirst), retryFirst
	}
	l.trouble = err
}

// lost notes that the connection went away.
func (l *lane) lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose(nats.ErrDisconnected)
}

// lose notes that no acknowledgement of what was sent over the connection will come. Everything in flight is sent
// again, in order; so what was not passed to nats.go yet must not go before it. The caller holds mu.
func (l *lane) lose(err error) {
	for _, f := range l.out {
		f.again = err
	}
	for _, f := range l.outbox {
		l.release(f)
	}
	l.outbox = nil
	l.stop(err)
}

// back has what was in flight sent again at once.
func (l *lane) back() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retry, l.pause = time.Time{}, retryFirst
}

// look gives up flights that have waited for patience, finds those whose acknowledgement is overdue, and sends again
// those whose pause is over.
func (l *lane) look(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trouble == nil && now.Sub(l.looked) < lookEvery {
		return
	}
	l.looked = now
	for _, f := range l.out {
		switch {
		case now.Sub(f.born) >= l.patience && f.sent:
			if now.Sub(f.attempted) >= l.patience/2 && l.nc.IsConnected() { // it was NATS, not the way there
				l.stream.missed()
			}
			l.land(f, errUnknown)
		case now.Sub(f.born) >= l.patience:
			l.land(f, errors.Join(errUnsent, f.again))
		case f.again == nil && now.Sub(f.attempted) >= overdueAfter &&
			(l.acked > f.number || now.Sub(l.ackedAt) >= overdueAfter):
			f.again = jetstream.ErrAsyncPublishTimeout
			l.stop(f.again)
			if l.nc.IsConnected() {
				l.stream.missed()
			}
		}
	}
	why := errUnsent
	if l.trouble != nil {
		why = errors.Join(errUnsent, l.trouble)
	}
	l.stages = slices.DeleteFunc(l.stages, func(s *stage) bool { return l.giveUp(s, now, why) })
	if l.nc.IsConnected() {
		l.sendAgain(now)
	}
	l.pump()
}

// giveUp gives up what has waited in a stage for too long; now zero: everything.
// It reports whether that was all.
func (l *lane) giveUp(s *stage, now time.Time, err error) (empty bool) {
	late := func(f *flight) bool { return now.IsZero() || now.Sub(f.born) >= l.patience }
	if s.pack != nil && late(s.pack) {
		l.land(s.pack, err)
		s.pack = nil
	}
	s.after = slices.DeleteFunc(s.after, func(f *flight) bool {
		if late(f) {
			l.land(f, err)
			return true
		}
		return false
	})
	return s.pack == nil && len(s.after) == 0
}

// sendAgain sends what is to be sent again, in the order in which it was first sent.
// When nothing is in flight any more the trouble is over.
func (l *lane) sendAgain(now time.Time) {
	if len(l.out) == 0 {
		if _, err := l.stream.departure(); err == nil {
			l.trouble = nil
		}
	}
	var again []*flight
	for _, f := range l.out {
		if f.again != nil {
			again = append(again, f)
		}
	}
	if len(again) == len(l.out) { // no acknowledgement is awaited from an older connection
		l.reconnects = l.nc.Stats().Reconnects
	}
	if len(again) == 0 || now.Before(l.retry) {
		return
	}
	slices.SortFunc(again, byNumber)
	for _, f := range again {
		if l.depart(f); f.again != nil { // no epoch is known yet, so nothing is sent
			l.retry = now.Add(retryFirst)
			return
		}
		l.metrics.retries.Inc()
	}
	l.pause = min(2*l.pause, retryLast)
	l.retry = now.Add(l.pause)
}

// land ends a flight: err is nil if it is stored. Whoever waits for one of its messages goes on.
func (l *lane) land(f *flight, err error) {
	if f.number != 0 {
		delete(l.out, f.number)
		if f.keyed {
			if l.channels[f.channel]--; l.channels[f.channel] == 0 {
				delete(l.channels, f.channel)
			}
		}
	}
	if f.keyed {
		l.keyed.Release(1)
	}
	if l.pack == f {
		l.pack = nil
	}
	l.room.Release(f.cost)
	l.waiting -= f.pack.Len()
	f.err = err
	close(f.done)
	l.release(f)
}
