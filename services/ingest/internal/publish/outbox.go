package publish

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/nats-io/nats.go"
)

// depart is one attempt to store a flight. It cannot be made while nobody knows the epoch that the flight would be of;
// then f.again says so, and sendAgain repeats it.
func (l *lane) depart(f *flight) {
	f.attempted = time.Now()
	if f.mark, f.again = l.stream.departure(); f.again != nil {
		l.stop(f.again)
		return
	}
	f.refs.Add(1)
	l.outbox = append(l.outbox, f)
}

// dispatch sends what waits, if no pack is in flight. It lets other goroutines run before, so that requests
// which they are reading at this moment add their messages: with processors to
// spare it waits for nobody, and with none a pack is twice as large.
func (l *lane) dispatch() {
	runtime.Gosched()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pump()
	l.flushLocked()
}

// flush passes the outbox to nats.go.
func (l *lane) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
}

// flushLocked is flush for a caller that holds mu, which is free meanwhile. One goroutine at a time
// does it, for all: so flights are sent in order, and nobody else is held up by a slow socket. Over a new connection it
// sends nothing before sendAgain has sent what was lost with the old one, which run may notice later than this does.
func (l *lane) flushLocked() {
	if l.flushing {
		return
	}
	l.flushing = true
	for len(l.outbox) > 0 {
		if l.nc.Stats().Reconnects != l.reconnects {
			l.lose(nats.ErrDisconnected)
			break
		}
		f := l.outbox[0]
		l.outbox = l.outbox[1:]
		l.mu.Unlock()
		err := l.publish(f)
		l.mu.Lock()
		switch {
		case err == nil:
			f.sent = true
		case transient(err):
			l.lose(err)
		default:
			l.failed(f, err)
		}
		l.release(f)
	}
	l.flushing = false
}

// publish passes a flight to nats.go. Where nats.go writes to the socket at once, because its buffer is full, it
// returns the error of a write to a broken connection as it is; here that is nats.ErrDisconnected, as everywhere else.
func (l *lane) publish(f *flight) error {
	err := l.nc.PublishMsg(&f.msg)
	for _, known := range []error{nil, nats.ErrReconnectBufExceeded, nats.ErrMaxPayload, nats.ErrConnectionClosed,
		nats.ErrConnectionDraining, nats.ErrBadSubject, nats.ErrHeadersNotSupported} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", nats.ErrDisconnected, err)
}
