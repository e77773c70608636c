package publish

import (
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/ask"
)

// acceptedKept is for how many messages a publisher keeps how it accepted them. It keeps that only while somebody asks.
const acceptedKept = 4096

// Accepted is how a message was accepted.
type Accepted struct {
	ID      string
	Request string // the id of the request
	Source  string // the publisher's IP address
	Time    time.Time
}

// accepted keeps the newest. Safe for concurrent use.
type accepted struct {
	mu   sync.Mutex
	ring []Accepted // guarded by mu
	n    int        // guarded by mu; ever kept
}

func (a *accepted) keep(one Accepted) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ring) < acceptedKept {
		a.ring = append(a.ring, one)
	} else {
		a.ring[a.n%acceptedKept] = one
	}
	a.n++
}

// Watch begins to keep how messages are accepted; with false it ends that, and forgets what was kept.
func (p *Publisher) Watch(keep bool) {
	if !keep {
		p.accepted.Store(nil)
	} else {
		p.accepted.CompareAndSwap(nil, &accepted{})
	}
}

// Accepted returns how a message was accepted; false: that was not kept, or by another process.
func (p *Publisher) Accepted(id string) (Accepted, bool) {
	a := p.accepted.Load()
	if a == nil {
		return Accepted{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.ring {
		if one.ID == id {
			return one, true
		}
	}
	return Accepted{}, false
}

// Lane begins the message id of every pack that this process stores.
func (p *Publisher) Lane() string { return p.lane.ids }

// Figures are those of the console: messages that were stored or sent, the time to acknowledgement, and how many wait.
func (p *Publisher) Figures() (published uint64, ack ask.Histogram, pending int) {
	for _, status := range []string{proto.StatusStored, proto.StatusDuplicate, proto.StatusSent} {
		published += uint64(ask.Counted(p.metrics.messages[status]))
	}
	return published, ask.Observed(p.metrics.ack), p.lane.pending()
}

// StreamState is what the stream kept when it was last read; nil: it was not.
func (p *Publisher) StreamState() *ask.StreamState {
	found := p.stream.found.Load()
	if found == nil {
		return nil
	}
	return &ask.StreamState{Messages: found.Msgs, Bytes: found.Bytes, First: found.FirstSeq, Last: found.LastSeq}
}
