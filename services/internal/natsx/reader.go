package natsx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/retry"
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
	nc    *nats.Conn
	index Index // nil: none
}

// NewReader makes a reader over a connection, which the caller owns. index may
// be nil; then whatever is not in memory is read.
func NewReader(nc *nats.Conn, index Index) *Reader { return &Reader{nc: nc, index: index} }

// Index knows in which packs messages of a channel may be.
type Index interface {
	// Ranges are those packs from one stream sequence up to another that may hold
	// messages of the channels or patterns: ascending, apart from each other.
	// What the index does not know it names, too.
	Ranges(names []string, from, upTo uint64) []PackRange
	// Await waits until the index knows the packs from a stream sequence up to another, which the
	// stream has reached, if to wait takes less than to read them. It ends with ctx at the latest.
	Await(ctx context.Context, from, upTo uint64)
}

// PackRange is packs from one stream sequence to another, both included.
type PackRange struct{ From, Through uint64 }

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

// Received is a stored message.
type Received struct {
	Number   uint64 // proto.Number
	Channel  string
	Body     []byte    // what subscribers get, without the id; the receiver's own
	Accepted time.Time // zero if unknown
	Source   string    // the publisher's IP address; empty if unknown
	Trace    string    // traceparent; empty without
	Expires  int64     // Unix milliseconds; 0: never
	Except   string    // the connection that does not get it; empty: none
}

// ReceivedOf is the current message of a pack, or of ephemeral ones; ok is
// false for a line that is none of Herald's.
func ReceivedOf(p *Pack) (r Received, ok bool) {
	body := p.Message()
	if body == nil || proto.CheckChannel(string(p.Channel())) != nil {
		return Received{}, false
	}
	r = Received{
		Channel: string(p.Channel()), Body: bytes.Clone(body), Source: string(p.Source()),
		Trace: string(p.Traceparent()), Expires: p.Expires(), Except: string(p.Except()),
	}
	if p.Seq > 0 {
		r.Number = proto.Number(p.Seq, p.Place())
	}
	if us := p.Accepted(); us > 0 {
		r.Accepted = time.UnixMicro(us)
	}
	return r, true
}

// lagPause is how long a replica is given to catch up with its leader.
const lagPause = 20 * time.Millisecond

// ErrBehind: the replica that answered has not stored yet what its leader has.
// Asking again a moment later may find it there, or ask another replica.
var ErrBehind = errors.New("the replica that answered is behind the sequence asked for")

// Why something is missing.
const (
	Expired = proto.GapExpired // retention deleted it
	Damaged = proto.GapDamaged // it is gone from the middle of the stream, where Herald deletes nothing
)

// Run is packs that follow each other in the stream without a hole.
type Run struct {
	Packs []Pack // the first one is the one asked for, unless that is missing
	// Missing is not 0 if the pack asked for is not there, and why says why: it
	// and those up to Missing are gone. Then there are no Packs.
	Missing uint64
	Why     string
}

const (
	// runPacks and runBytes bound one answer of NATS.
	runPacks = 512
	runBytes = 4 << 20
)

// Packs reads packs from one stream sequence up to another, which the stream
// has reached, or as many of them as one answer holds. It waits for replicas that
// are behind until ctx ends; the error then wraps ErrBehind.
func (r *Reader) Packs(ctx context.Context, from, upTo uint64) (run Run, err error) {
	return r.patientRun(ctx, false, from, upTo, runBytes)
}

func (r *Reader) patientRun(ctx context.Context, behind bool, from, upTo uint64, maxBytes int) (run Run, err error) {
	err = patiently(ctx, behind, func() (err error) {
		run, err = r.run(ctx, from, upTo, maxBytes)
		return err
	})
	return run, err
}

func (r *Reader) run(ctx context.Context, from, upTo uint64, maxBytes int) (Run, error) {
	packs, err := fetchPacks(ctx, r.nc, from, int(min(upTo-from+1, runPacks)), maxBytes)
	if err != nil {
		return Run{}, err
	}
	n := 0
	for n < len(packs) && packs[n].Seq == from+uint64(n) && packs[n].Seq <= upTo {
		n++
	}
	if n > 0 {
		return Run{Packs: packs[:n]}, nil
	}
	// Only the leader may say that it is gone.
	next, err := nextPack(ctx, r.nc, from)
	if err != nil {
		return Run{}, err
	}
	state, err := r.State(ctx)
	switch {
	case err != nil:
		return Run{}, err
	case state.First > from:
		return Run{Missing: min(state.First-1, upTo), Why: Expired}, nil
	case next == from || state.Last < from:
		return Run{}, ErrBehind
	case next == 0:
		return Run{Missing: upTo, Why: Damaged}, nil
	}
	return Run{Missing: min(next-1, upTo), Why: Damaged}, nil
}

// patiently repeats what fails with ErrBehind until ctx ends; the error wraps ErrBehind then, also when ctx ended while
// a replica was asked once more. behind: the first answer is known to have been ErrBehind.
func patiently(ctx context.Context, behind bool, ask func() error) error {
	var err error
	ended := retry.Policy{Pause: lagPause}.Until(ctx, func(context.Context) error {
		if err = ask(); errors.Is(err, ErrBehind) {
			behind = true
			return err
		}
		return nil
	})
	switch {
	case ended != nil:
		return errors.Join(ended, err)
	case err != nil && behind && ctx.Err() != nil:
		return errors.Join(ctx.Err(), err, ErrBehind)
	}
	return err
}
