package chanindex

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// retryEvery is the pause before the stream is followed again.
	retryEvery = 500 * time.Millisecond
	// lookEvery is how often the stream is compared with what is known.
	lookEvery = 15 * time.Second
	// fetchEvery is how often headers of new packs are fetched while nobody asks. NATS passes many at once on for a
	// fraction of what it costs to pass each on as it is stored; who asks meanwhile has the rest fetched.
	fetchEvery = time.Second
	// fetchPacks is how many headers are fetched at once.
	fetchPacks = 1024
)

// Run follows the stream until ctx ends: by the headers of its packs, from the
// oldest one on. Bodies are not read. Once everything is known, what is new is fetched every
// fetchEvery, and when somebody waits for it.
func (x *Index) Run(ctx context.Context, nc *nats.Conn, log *slog.Logger) {
	reader := natsx.NewReader(nc, nil)
	var epochs natsx.Epochs
	begun := false
	again := retry.Policy{Pause: retryEvery, Log: func(err error) {
		log.Debug("the index of channels does not follow the stream; trying again", "err", err)
	}}
	again.Forever(ctx, func(ctx context.Context) error {
		state, err := reader.State(ctx)
		if err != nil {
			return err
		}
		if begun && !state.Epochs.Same(epochs, x.last()) || x.last() > state.Last {
			x.reset()
		}
		begun, epochs = true, state.Epochs
		return x.follow(ctx, nc, reader, state, log)
	})
}

// last is the newest pack that is known; 0: none.
func (x *Index) last() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return max(x.next, 1) - 1
}

// errMoved: what is known is not what the stream has.
var errMoved = errors.New("the stream is another one than before")

// follow adds what is stored, until the stream is another one, or nothing
// comes though there is something.
func (x *Index) follow(ctx context.Context, nc *nats.Conn, reader *natsx.Reader, state natsx.State,
	log *slog.Logger) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	from := max(x.last()+1, state.First)
	if x.last() > 0 && from > x.last()+1 { // retention deleted what comes next
		x.reset()
	}
	if from > state.Last {
		x.built()
	}
	cons, err := js.CreateConsumer(ctx, proto.Stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, HeadersOnly: true,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return err
	}
	defer func() { // NATS by itself would remove the consumer after a minute only
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryEvery)
		defer cancel()
		_ = js.DeleteConsumer(ctx, proto.Stream, cons.CachedInfo().Name)
	}()
	tick, look := time.NewTicker(x.every), time.NewTicker(lookEvery)
	defer tick.Stop()
	defer look.Stop()
	f := fetcher{x, cons, reader, log, 0}
	for stuck := uint64(0); ; {
		n, err := f.fetch(ctx)
		if err != nil {
			return err
		}
		if n == fetchPacks {
			continue
		}
		x.built()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.ask:
		case <-tick.C:
		case <-look.C:
			now, err := reader.State(ctx)
			if err != nil {
				continue // NATS is away
			}
			last := x.last()
			if !now.Epochs.Same(state.Epochs, last) || last > now.Last || last > 0 && last < now.Last && last == stuck {
				return errMoved
			}
			stuck = last
			x.forget(now.First)
		}
	}
}

// fetcher fetches the headers of packs.
type fetcher struct {
	x      *Index
	cons   jetstream.Consumer
	reader *natsx.Reader
	log    *slog.Logger
	number uint64 // of the newest one that came, as the consumer counts
}

// fetch adds what the stream has, fetchPacks at most, and returns how many there were.
func (f *fetcher) fetch(ctx context.Context) (n int, err error) {
	batch, err := f.cons.FetchNoWait(fetchPacks)
	if err != nil {
		return 0, err
	}
	for m := range batch.Messages() { // to the end in any case: it has all of them already, or ends within a second
		if meta, e := m.Metadata(); err != nil {
			continue
		} else if err = e; err == nil {
			err = f.index(ctx, meta.Sequence, m)
		}
		n++
	}
	f.x.moved()
	return n, cmp.Or(err, batch.Error())
}

// index adds the channels of a pack to the index. The error says that the consumer has skipped one.
func (f *fetcher) index(ctx context.Context, seq jetstream.SequencePair, m jetstream.Msg) error {
	if f.number++; seq.Consumer != f.number {
		return errors.New("packs were lost on the way here")
	}
	from, through, hole := f.x.note(seq.Stream, m)
	if !hole {
		return nil
	}
	now, err := f.reader.State(ctx)
	if err == nil && now.First <= from { // else retention deleted it
		f.x.count(through - from + 1)
		f.log.Error("the stream is damaged: messages that it stored are gone; who asks for them is told", "seq",
			from, "upto", through)
	}
	return nil
}

// note adds one pack. What is missing before it is named to whoever asks, so
// that readers find the hole.
func (x *Index) note(seq uint64, m jetstream.Msg) (from, through uint64, hole bool) {
	next := x.last() + 1
	if next > 1 && seq < next {
		return 0, 0, false // it came before
	}
	if next > 1 && seq > next {
		from, through, hole = next, seq-1, true
		x.add(next, nil, true)
		x.pass(seq)
	}
	if m.Subject() == proto.SubjectPacks {
		hashes, ok := proto.ReadChannels(nil, m.Headers().Get(proto.HeaderChannels))
		x.add(seq, hashes, !ok)
		return from, through, hole
	}
	channel, ok := proto.ChannelOf(m.Subject())
	x.add(seq, hashesOf(channel), !ok)
	return from, through, hole
}

func (x *Index) count(packs uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.damaged += packs
}

// pass extends the newest block up to before seq.
func (x *Index) pass(seq uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next = seq
}

// hashesOf are those that a pack with a message of the channel names.
func hashesOf(channel string) (hashes []uint32) {
	for i := 0; i < len(channel) && len(hashes) < 4; i++ {
		if channel[i] == '.' {
			hashes = append(hashes, proto.ChannelHash(channel[:i+1]))
		}
	}
	return append(hashes, proto.ChannelHash(channel))
}

// forget drops segments of which the stream keeps nothing.
func (x *Index) forget(first uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.segments) > 1 && x.segments[1].begins[0] <= first {
		x.segments[0] = nil
		x.segments = x.segments[1:]
		x.first = x.segments[0].begins[0]
	}
}
