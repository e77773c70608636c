package natsx

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/herald-push/herald/proto"
)

// Range is what a page is wanted of.
type Range struct {
	Names []string // channels or patterns; ">" is all
	// Since is the number after which messages are wanted, UpTo the last one. The
	// stream must have reached UpTo: the caller has a State that says so, or has
	// received that message.
	Since, UpTo uint64
	// Messages and Bytes bound the page. One message is always on it, however
	// large. Bytes 0 is 8 MiB.
	Messages, Bytes int
}

// Span is the part of the stream that a page is about.
type Span struct {
	Messages []Received // in stream order; none that has expired by its own ttl
	// End is the number up to which Messages is complete: after Since, at most
	// UpTo. More of what was asked for stands behind it if End < UpTo.
	End uint64
	// Missing is not 0 if messages after Since up to here may be missing, and Why
	// says why. It is End then, and there are no Messages.
	Missing uint64
	Why     string
}

const (
	defaultPageBytes = 8 << 20
	// pageReads is how many bytes of packs are read for one page at most: where
	// hardly anything is wanted, its End is what moves on.
	pageReads = 16 << 20
	// leastRun is how many bytes of packs are read at once at least.
	leastRun = 128 << 10
)

// Read reads one page. It waits for replicas that are behind until ctx ends;
// the error then wraps ErrBehind.
func (r *Reader) Read(ctx context.Context, q Range) (Span, error) {
	if q.Bytes <= 0 {
		q.Bytes = defaultPageBytes
	}
	p := page{Span: Span{End: q.Since}, q: q, wanted: wantedOf(q.Names), now: time.Now().UnixMilli()}
	if q.UpTo <= q.Since || len(q.Names) == 0 {
		p.End = max(q.Since, q.UpTo)
		return p.Span, nil
	}
	atOnce := min(max(q.Bytes/2, leastRun), runBytes) // what is read counts in the caller's memory, too
	for _, part := range r.ranges(ctx, q.Names, FirstAfter(q.Since), proto.PackOf(q.UpTo)) {
		for at := part.From; at <= part.Through; {
			run, err := r.run(ctx, at, part.Through, atOnce)
			if errors.Is(err, ErrBehind) {
				if p.End > q.Since {
					return p.Span, nil // the next page waits for it
				}
				run, err = r.patientRun(ctx, true, at, part.Through, atOnce)
			}
			switch {
			case err != nil:
				return Span{}, err
			case run.Missing > 0 && len(p.Messages) > 0:
				p.End = proto.EndOf(at - 1)
				return p.Span, nil // the next page tells
			case run.Missing > 0:
				p.End = min(proto.EndOf(run.Missing), q.UpTo)
				p.Missing, p.Why = p.End, run.Why
				return p.Span, nil
			}
			for i := range run.Packs {
				if p.add(&run.Packs[i]) {
					return p.Span, nil
				}
			}
			at += uint64(len(run.Packs))
		}
	}
	p.End = q.UpTo
	return p.Span, nil
}

// FirstAfter is the stream sequence of the first pack that may hold a message
// after a number. For that of a message it is its own pack, also for the last one of it: how many messages a pack has
// stands in the pack alone, as several processes store packs and none knows what the one before its own holds. So
// when the pack has expired, and the next one has not, whoever asks with the id of its last message is told that
// something may be missing though nothing is; the other answer would be silently short for all who ask with an id
// before that one. Ids of places (welcome, position, next of a
// page) are behind the whole pack as soon as all of it was handed on, and exact.
func FirstAfter(number uint64) uint64 { return max(1, proto.PackOf(number+1)) }

// ranges is where to look.
func (r *Reader) ranges(ctx context.Context, names []string, from, upTo uint64) []PackRange {
	if r.index == nil || slices.Contains(names, ">") {
		return []PackRange{{from, upTo}}
	}
	r.index.Await(ctx, from, upTo)
	return r.index.Ranges(names, from, upTo)
}

// page is a Span that is being filled.
type page struct {
	Span
	q           Range
	wanted      wanted
	now         int64 // Unix milliseconds
	bytes, read int
}

// add adds a pack's messages, and reports whether the page ends with them.
func (p *page) add(pack *Pack) (full bool) {
	for pack.Next() {
		number := proto.Number(pack.Seq, pack.Place())
		if number <= p.q.Since || number > p.q.UpTo || !p.wanted.has(pack.Channel()) || pack.Expired(p.now) {
			continue
		}
		m, ok := ReceivedOf(pack)
		if !ok {
			continue
		}
		if len(p.Messages) > 0 && (len(p.Messages) == p.q.Messages || p.bytes+len(m.Body) > p.q.Bytes) {
			return true // End is where the last one is
		}
		p.Messages = append(p.Messages, m)
		p.bytes += len(m.Body)
		p.End = number
	}
	p.End = min(proto.EndOf(pack.Seq), p.q.UpTo)
	p.read += pack.Bytes
	return p.read >= pageReads || len(p.Messages) > 0 && len(p.Messages) == p.q.Messages
}

// wanted tells what of a pack was asked for.
type wanted struct {
	channels map[string]bool
	patterns []string
}

func wantedOf(names []string) wanted {
	w := wanted{channels: map[string]bool{}}
	for _, name := range names {
		if proto.IsPattern(name) {
			w.patterns = append(w.patterns, name)
		} else {
			w.channels[name] = true
		}
	}
	return w
}

func (w *wanted) has(channel []byte) bool {
	if w.channels[string(channel)] { // which does not allocate
		return true
	}
	for _, pattern := range w.patterns {
		if proto.Match(pattern, string(channel)) {
			return true
		}
	}
	return false
}

const (
	// MaxNewest is of how many channels Last returns the newest message.
	MaxNewest = 1024
	// lastReads is how many bytes of packs Last reads at most, while a pattern
	// may have further channels.
	lastReads = 32 << 20
)

// Last reads the newest message up to upTo, which is as in Range, of each
// channel named, in stream order. Of patterns it is the channels that were used
// most recently: at most MaxNewest, and only as far back as lastReads. The
// messages have maxBytes at most; 0 is 8 MiB. It waits as Read does.
func (r *Reader) Last(ctx context.Context, names []string, upTo uint64, maxBytes int) ([]Received, error) {
	if maxBytes <= 0 {
		maxBytes = defaultPageBytes
	}
	state, err := r.State(ctx)
	if err != nil || upTo == 0 || len(names) == 0 {
		return nil, err
	}
	l := newest{wanted: wantedOf(names), upTo: upTo, now: time.Now().UnixMilli(), found: map[string]Received{},
		maxBytes: maxBytes}
	if r.index != nil {
		r.index.Await(ctx, state.First, max(state.First, proto.PackOf(upTo)))
	}
	for at := proto.PackOf(upTo); at >= state.First && !l.complete(); {
		part := r.before(l.open(), state.First, at)
		if part.Through == 0 {
			break
		}
		if err := r.newestOf(ctx, &l, part); err != nil {
			return nil, err
		}
		at = part.From - 1
	}
	return l.sorted(), nil
}

// before is where to look next, at or before a stream sequence: some packs.
func (r *Reader) before(names []string, first, at uint64) PackRange {
	part := PackRange{first, at}
	if r.index != nil {
		parts := r.index.Ranges(names, first, at)
		if len(parts) == 0 {
			return PackRange{}
		}
		part = parts[len(parts)-1]
	}
	if part.Through-part.From >= lastPacks {
		part.From = part.Through - lastPacks + 1
	}
	return part
}

// lastPacks is how many packs Last goes back at once.
const lastPacks = 64

// newestOf looks through some packs. Packs that are missing hold nothing.
func (r *Reader) newestOf(ctx context.Context, l *newest, part PackRange) error {
	here := map[string]Received{}
	for at := part.From; at <= part.Through; {
		run, err := r.patientRun(ctx, false, at, part.Through, runBytes/4)
		if err != nil {
			return err
		}
		for i := range run.Packs {
			l.look(&run.Packs[i], here)
		}
		at = max(at+uint64(len(run.Packs)), run.Missing+1)
	}
	l.keep(here)
	return nil
}

// newest is what Last has found so far, going backwards.
type newest struct {
	wanted
	upTo        uint64
	now         int64
	found       map[string]Received
	bytes, read int
	maxBytes    int
	full        bool
}

// open is what is still to be found.
func (l *newest) open() (names []string) {
	for name := range l.channels {
		names = append(names, name)
	}
	return append(names, l.patterns...)
}

func (l *newest) complete() bool {
	return l.full || len(l.channels) == 0 && len(l.patterns) == 0 || len(l.patterns) > 0 && l.read >= lastReads
}

// look notes what a pack has of channels that later packs had nothing of.
func (l *newest) look(p *Pack, here map[string]Received) {
	l.read += p.Bytes
	for p.Next() {
		if proto.Number(p.Seq, p.Place()) > l.upTo || !l.has(p.Channel()) || p.Expired(l.now) {
			continue
		}
		if _, ok := l.found[string(p.Channel())]; ok {
			continue
		}
		if m, ok := ReceivedOf(p); ok {
			here[m.Channel] = m
		}
	}
}

// keep keeps what some packs had, the newest first.
func (l *newest) keep(here map[string]Received) {
	all := make([]Received, 0, len(here))
	for _, m := range here {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Received) int { return cmp.Compare(b.Number, a.Number) })
	for _, m := range all {
		if len(l.found) == MaxNewest || l.bytes+len(m.Body) > l.maxBytes && len(l.found) > 0 {
			l.full = true
			return
		}
		l.found[m.Channel] = m
		l.bytes += len(m.Body)
		delete(l.channels, m.Channel)
	}
}

func (l *newest) sorted() []Received {
	all := make([]Received, 0, len(l.found))
	for _, m := range l.found {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Received) int { return cmp.Compare(a.Number, b.Number) })
	return all
}
