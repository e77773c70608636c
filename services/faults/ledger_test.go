package faults

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
)

// message is one that ingest accepted. n is in its data and names it: the
// same n under two ids is a message that was stored twice.
type message struct {
	n       uint64
	channel string
	tried   time.Time // when its publisher sent it for the first time
}

// ledger knows what was accepted, by sequence. Each part of the stream is of one
// epoch.
// Safe for concurrent use.
type ledger struct {
	mu       sync.Mutex
	epochs   map[string]part    // guarded by mu; what each has
	messages map[uint64]message // guarded by mu
	unsure   map[uint64]message // guarded by mu; by n: what may be stored, or not
	faults   []string           // guarded by mu; promises broken at a publisher already
}

// part is from the first to the last sequence of an epoch.
type part struct{ first, last uint64 }

func newLedger() *ledger {
	return &ledger{messages: map[uint64]message{}, unsure: map[uint64]message{}, epochs: map[string]part{}}
}

// extend adds a sequence to an epoch, and reports the other one that it is of
// already.
func (l *ledger) extend(epoch string, seq uint64) (other string, taken bool) {
	p, ok := l.epochs[epoch]
	if !ok {
		p = part{seq, seq}
	}
	p = part{min(p.first, seq), max(p.last, seq)}
	for name, o := range l.epochs {
		if name != epoch && p.first <= o.last && o.first <= p.last {
			return name, true
		}
	}
	l.epochs[epoch] = p
	return "", false
}

// accept notes that ingest answered with this id, and returns its sequence.
func (l *ledger) accept(id string, m message) uint64 {
	at, err := proto.ParseCursor(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	var other string
	mixed := false
	if err == nil {
		other, mixed = l.extend(at.Epoch, at.Seq)
	}
	before, taken := l.messages[at.Seq]
	switch {
	case err != nil:
		l.faults = append(l.faults, fmt.Sprintf("message %d: %v", m.n, err))
	case mixed:
		l.faults = append(l.faults, fmt.Sprintf("message %d got the id %s, in the middle of epoch %s", m.n, id, other))
	case taken:
		l.faults = append(l.faults, fmt.Sprintf("messages %d and %d got the same id %s", before.n, m.n, id))
	default:
		l.messages[at.Seq] = m
		delete(l.unsure, m.n)
	}
	return at.Seq
}

// perhaps notes messages that may be stored without anybody having been told so. What is
// accepted later is none any more.
func (l *ledger) perhaps(all []message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range all {
		l.unsure[m.n] = m
	}
}

// last is the highest sequence that was accepted.
func (l *ledger) last() (last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for seq := range l.messages {
		last = max(last, seq)
	}
	return last
}

// fault notes a promise that was broken at a publisher.
func (l *ledger) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.messages)
}

// newest is the last sequence of each channel.
func (l *ledger) newest() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := map[string]uint64{}
	for seq, m := range l.messages {
		newest[m.channel] = max(newest[m.channel], seq)
	}
	return newest
}

// follow is one channel or pattern of one client. What is after `after` up to
// `until` must have come; what is after mayAfter up to mayUntil may have: the
// way into a subscription and out of it takes time.
type follow struct {
	pattern            string
	after, until       uint64
	mayAfter, mayUntil uint64
}

const forEver = math.MaxUint64

// following is a subscription that is complete after a sequence.
func following(pattern string, after uint64) follow {
	return follow{pattern: pattern, after: after, until: forEver, mayAfter: after, mayUntil: forEver}
}

func (f *follow) must(seq uint64, channel string) bool {
	return seq > f.after && seq <= f.until && proto.Match(f.pattern, channel)
}

func (f *follow) may(seq uint64, channel string) bool {
	return seq > f.mayAfter && seq <= f.mayUntil && proto.Match(f.pattern, channel)
}

// receipt is one message as a client got it. Times are Unix nanoseconds:
// there are millions of these.
type receipt struct {
	seq, n uint64
	at     int64
	online int64 // since when the client wanted to be connected
}

// verdict is what became of the messages of one scenario, or of one client.
type verdict struct {
	published, received         int
	lost, duplicated, reordered int
	// the longest from a publisher's first attempt until a client that wanted it had it
	stall    time.Duration
	stalled  string   // the client whose stall that is
	examples []string // some of what is wrong, for people
}

// maxExamples is what a person wants to read.
const maxExamples = 20

func (v *verdict) wrong(count *int, format string, args ...any) {
	*count++
	if len(v.examples) < maxExamples {
		v.examples = append(v.examples, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) add(o verdict) {
	v.received += o.received
	v.lost += o.lost
	v.duplicated += o.duplicated
	v.reordered += o.reordered
	if o.stall > v.stall {
		v.stall, v.stalled = o.stall, o.stalled
	}
	for _, e := range o.examples {
		if len(v.examples) < maxExamples {
			v.examples = append(v.examples, e)
		}
	}
}

// perfect reports whether every promise was kept.
func (v *verdict) perfect() bool {
	return v.lost == 0 && v.duplicated == 0 && v.reordered == 0 && len(v.examples) == 0
}

// judge holds what a client got against what it had to get. A message that
// nobody was told is stored, or that the client did not follow, counts as
// duplicated, unless it is unsure and came once; one whose content is another message's,
// as lost; so does a gap frame, as no scenario gives cause for one.
func (l *ledger) judge(who string, got []receipt, follows []follow, gaps []string) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verdict{received: len(got)}
	for _, g := range gaps {
		v.wrong(&v.lost, "%s: %s", who, g)
	}
	has, came := make(map[uint64]struct{}, len(got)), map[uint64]bool{}
	var newest uint64
	for _, r := range got {
		m, accepted := l.messages[r.seq]
		_, again := has[r.seq]
		if perhaps, ok := l.unsure[r.n]; ok && !accepted {
			m, accepted = perhaps, true
			again = again || came[r.n]
			came[r.n] = true
		}
		switch {
		case again:
			v.wrong(&v.duplicated, "%s: got %d twice", who, r.seq)
		case !accepted:
			v.wrong(&v.duplicated, "%s: got %d (message %d), which no publisher was told of", who, r.seq, r.n)
		case m.n != r.n:
			v.wrong(&v.lost, "%s: %d has message %d, want %d", who, r.seq, r.n, m.n)
		case !slices.ContainsFunc(follows, func(f follow) bool { return f.may(r.seq, m.channel) }):
			v.wrong(&v.duplicated, "%s: got %d on %s, which it did not follow", who, r.seq, m.channel)
		case r.seq < newest:
			v.wrong(&v.reordered, "%s: got %d after %d", who, r.seq, newest)
		default:
			if late := time.Duration(r.at - max(m.tried.UnixNano(), r.online)); late > v.stall {
				v.stall, v.stalled = late, who
			}
		}
		has[r.seq] = struct{}{}
		newest = max(newest, r.seq)
	}
	for seq, m := range l.messages {
		if _, ok := has[seq]; ok {
			continue
		}
		if slices.ContainsFunc(follows, func(f follow) bool { return f.must(seq, m.channel) }) {
			v.wrong(&v.lost, "%s: never got %d (message %d) on %s", who, seq, m.n, m.channel)
		}
	}
	return v
}
