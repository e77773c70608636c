package natsx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Reader reads what the stream keeps, one page at a time: for the gateway's
// repair of its live feed, for clients that resume, and for history. It reads
// by batched direct get, which any replica may answer and for which NATS makes
// no consumer, and asks the stream's leader where only the leader knows.
//
// Safe for concurrent use.
type Reader struct {
	nc *nats.Conn
}

// NewReader makes a reader over a connection, which the caller owns.
func NewReader(nc *nats.Conn) *Reader { return &Reader{nc: nc} }

// State is where the stream stands, by the word of its leader.
type State struct {
	Epochs Epochs
	First  uint64 // the oldest sequence that is kept; Last+1 when nothing is
	Last   uint64 // the newest sequence ever stored, kept or not; 0: none
	// Alone says that one server keeps the stream, whose word is final.
	Alone bool
}

// State asks the leader where the stream stands. A leader that its cluster may
// have left behind is an error; see Believable. Without a stream the error
// wraps jetstream.ErrStreamNotFound.
func (r *Reader) State(ctx context.Context) (State, error) {
	info, err := r.info(ctx)
	if err == nil {
		err = Believable(info.Cluster)
	}
	if err != nil {
		return State{}, fmt.Errorf("read the state of stream %s: %w", proto.Stream, err)
	}
	return StateOf(info), nil
}

func (r *Reader) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	js, err := jetstream.New(r.nc)
	if err != nil {
		return nil, err
	}
	s, err := js.Stream(ctx, proto.Stream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// StateOf is the state in an answer about the stream.
func StateOf(info *jetstream.StreamInfo) State {
	return State{
		Epochs: EpochsOf(info),
		First:  max(info.State.FirstSeq, 1), // 0 before the first message
		Last:   info.State.LastSeq,
		Alone:  info.Cluster == nil || len(info.Cluster.Replicas) == 0,
	}
}

// Range is what a page is wanted of.
type Range struct {
	Names []string // channels or patterns; ">" is all
	// Since is the sequence after which messages are wanted, UpTo the last one.
	// The stream must have reached UpTo: the caller has a State that says so, or
	// has received that message.
	Since, UpTo uint64
	// Messages bounds the page per name, Bytes the whole of it; at least 64 KiB
	// and one message, however large, are read per name. Bytes 0 is 8 MiB.
	Messages, Bytes int
}

// Span is the part of the stream that a page is about.
type Span struct {
	Messages []Received // in stream order, each once
	// End is the sequence up to which Messages is complete: after Since, at
	// most UpTo. More of what was asked for stands behind it if End < UpTo.
	End uint64
	// Expired is not 0 if retention has taken messages after Since: those up to
	// Expired, of which none is in Messages, may be missing. It is at most End.
	Expired uint64
}

// lagPause is how long a replica is given to catch up with its leader.
const lagPause = 20 * time.Millisecond

// ErrBehind: the replica that answered has not stored yet what its leader has.
// Asking again a moment later may find it there, or ask another replica.
var ErrBehind = errors.New("the replica that answered is behind the sequence asked for")

// Read reads one page. It waits for replicas that are behind until ctx ends;
// the error then wraps ErrBehind.
func (r *Reader) Read(ctx context.Context, q Range) (Span, error) {
	var s Span
	err := patiently(ctx, func() (err error) {
		s, err = r.pages(ctx, q)
		return err
	})
	if err != nil {
		return Span{}, err
	}
	// Retention does not wait for readers. Asked after the messages were read:
	// what is kept now was kept then.
	state, err := r.State(ctx)
	if err != nil {
		return Span{}, err
	}
	if state.First > q.Since+1 {
		s.Expired = min(state.First-1, q.UpTo)
		s.End = max(s.End, s.Expired)
		for len(s.Messages) > 0 && s.Messages[0].Seq <= s.Expired {
			s.Messages = s.Messages[1:]
		}
	}
	return s, nil
}

// Last reads the newest message up to upTo of each channel that the names take
// in, in stream order. upTo is as in Range. More than 1024 channels are
// ErrTooManyChannels. It waits as Read does.
func (r *Reader) Last(ctx context.Context, names []string, upTo uint64) (newest []Received, err error) {
	if upTo == 0 {
		return nil, nil // nothing was stored
	}
	err = patiently(ctx, func() (err error) {
		newest, err = FetchLast(ctx, r.nc, names, upTo)
		return err
	})
	return newest, err
}

// patiently repeats what fails with ErrBehind until ctx ends.
func patiently(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if !errors.Is(err, ErrBehind) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(lagPause):
		}
	}
}

// pages reads a page of each name and merges them, up to where the shortest
// ends.
func (r *Reader) pages(ctx context.Context, q Range) (Span, error) {
	s := Span{End: q.UpTo}
	maxBytes := max(cmp.Or(q.Bytes, maxAnswer)/max(1, len(q.Names)), 64<<10)
	for _, name := range q.Names {
		page, err := Fetch(ctx, r.nc, Query{Pattern: name, From: q.Since + 1, Batch: q.Messages, MaxBytes: maxBytes})
		if err != nil {
			return Span{}, err
		}
		s.Messages = append(s.Messages, page.Messages...)
		last := q.Since
		if n := len(page.Messages); n > 0 {
			last = page.Messages[n-1].Seq
		}
		if page.More {
			s.End = min(s.End, last)
			continue
		}
		// The end of what a replica has; its leader may have more.
		next, err := Next(ctx, r.nc, name, last+1)
		if err != nil {
			return Span{}, err
		}
		if next != 0 {
			s.End = min(s.End, next-1)
		}
	}
	if s.End <= q.Since && q.Since < q.UpTo {
		return Span{}, ErrBehind
	}
	slices.SortFunc(s.Messages, func(a, b Received) int { return cmp.Compare(a.Seq, b.Seq) })
	s.Messages = slices.CompactFunc(s.Messages, func(a, b Received) bool { return a.Seq == b.Seq }) // overlapping names
	for n := len(s.Messages); n > 0 && s.Messages[n-1].Seq > s.End; n-- {
		s.Messages = s.Messages[:n-1]
	}
	return s, nil
}
