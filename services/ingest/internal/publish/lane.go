package publish

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"
)

// lane sends flights to JetStream and receives their acknowledgements.
//
// One pack is in flight at a time. What comes meanwhile goes into the next one,
// which is sent when the first is acknowledged; so there is no timer, and a
// message that comes alone is sent at once. More packs in flight would be smaller
// ones: two are worse than one at every load. Messages with an idempotency key,
// which NATS has to recognise one by one, are in flight in numbers.
//
// Messages of one channel are stored in the order in which they came. NATS
// stores what comes over one connection in order; so a keyed message only has to
// be sent after what is before it, not to wait until that is acknowledged. In a
// cluster it does wait: between two leaders of a stream a message may be lost and
// the one behind it stored.
//
// When an acknowledgement is missing (the connection was lost, the stream has no
// leader) nothing new is sent before everything that is in flight was acknowledged or
// given up. What was not acknowledged is sent again, in the same order. Each flight has a message id, so it is
// stored once however often it is sent. What is not stored within Patience is
// given up. Safe for concurrent use.
type lane struct {
	// Fixed after newLane.
	nc       *nats.Conn
	stream   *stream
	metrics  *metrics
	patience time.Duration
	log      *slog.Logger
	prefix   string // of the reply subjects: an inbox of this lane's own, with the last dot
	ids      string // of the packs' message ids
	acks     *nats.Subscription
	room     *semaphore.Weighted // for what waits
	keyed    *semaphore.Weighted // for keyed flights
	spare    sync.Pool           // of *flight
	asking   sync.WaitGroup      // goroutines that ask for the epoch of an acknowledgement

	mu         sync.Mutex
	stages     []*stage           // guarded by mu; in sending order; messages are added to the last
	out        map[uint64]*flight // guarded by mu; in flight, by number
	pack       *flight            // guarded by mu; the pack in flight
	channels   map[uint32]int     // guarded by mu; keyed flights in flight by channel
	number     uint64             // guarded by mu; of the newest flight
	acked      uint64             // guarded by mu; the highest number that was acknowledged
	ackedAt    time.Time          // guarded by mu; when the last acknowledgement came
	trouble    error              // guarded by mu; why nothing new is sent; nil: it is
	looked     time.Time          // guarded by mu; when look was last done
	retry      time.Time          // guarded by mu; when flights that failed are sent again
	pause      time.Duration      // guarded by mu; before the attempt after that
	outbox     []*flight          // guarded by mu; to be passed to nats.go, in order
	flushing   bool               // guarded by mu; a goroutine is in flushLocked
	reconnects uint64             // guarded by mu; how often nc had been made anew when what is in flight was sent
	waiting    int                // guarded by mu; messages that have not landed
	ended      bool               // guarded by mu
	hashes     []byte             // guarded by mu; memory for a header
	clock      clock              // guarded by mu

	live *flight // guarded by mu; the ephemeral pack to which messages are added; nil: none
}

const (
	// maxRoom is how much may wait for its acknowledgement, counted in messages and
	// per 4 KiB: 16,384 messages, or 64 MiB. More than that is refused: NATS is behind.
	maxRoom  = 16 << 10
	roomUnit = 4 << 10
	// maxKeyed is how many messages with an idempotency key may be in flight or wait
	// for it. nats-server accepts 10,000 for a stream before it refuses some
	// (max_buffered_msgs).
	maxKeyed = 4096
	// stallWait is how long a message waits for room.
	stallWait = 500 * time.Millisecond
	// overdueAfter is when an acknowledgement counts as lost while others come, or
	// none does.
	overdueAfter = 3 * time.Second
	// retryFirst and retryLast are the first and the longest pause between attempts.
	retryFirst = 50 * time.Millisecond
	retryLast  = 500 * time.Millisecond
	// lookEvery is how often the lane is looked over while nothing is wrong.
	lookEvery = 250 * time.Millisecond
	// stageSpan is for how long a pack that cannot be sent still gets messages, so that
	// they can be given up together without giving up the last ones early.
	stageSpan = 500 * time.Millisecond
)

// Patience is how long after it was accepted a message is given up. It bridges
// a reconnect and the election of a stream's leader, and is far below the window in
// which NATS recognises a repeated message id.
const Patience = 10 * time.Second

// Errors of what has waited for Patience. What was never sent is certainly not
// stored.
var (
	errUnknown = errors.New("NATS did not acknowledge it in time; it may be stored all the same")
	errUnsent  = errors.New("it could not be sent")
)

// newLane subscribes to the acknowledgements, also while nc is not connected
// yet. close ends it.
func newLane(nc *nats.Conn, st *stream, m *metrics, patience time.Duration, log *slog.Logger) (*lane, error) {
	l := &lane{
		nc: nc, stream: st, metrics: m, patience: patience, log: log, prefix: nc.NewInbox() + ".",
		ids:  rand.Text()[:10] + "-",
		room: semaphore.NewWeighted(maxRoom), keyed: semaphore.NewWeighted(maxKeyed),
		out: map[uint64]*flight{}, channels: map[uint32]int{}, pause: retryFirst,
		reconnects: nc.Stats().Reconnects,
	}
	var err error
	if l.acks, err = nc.Subscribe(l.prefix+"*", l.acknowledged); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	return l, nil
}

// run finds flights whose acknowledgement is lost and sends them again, until ctx ends.
func (l *lane) run(ctx context.Context) {
	status := l.nc.StatusChanged(nats.RECONNECTING, nats.CONNECTED, nats.CLOSED)
	defer l.nc.RemoveStatusListener(status)
	tick := time.NewTicker(retryFirst)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-status:
			switch {
			case !ok:
				status = nil
			case s == nats.CONNECTED:
				l.back()
			default:
				l.lost()
			}
		case <-tick.C:
		}
		l.look(time.Now())
		l.flush()
	}
}

// close fails what still waits, and accepts nothing more.
func (l *lane) close() {
	l.mu.Lock()
	l.ended = true
	for _, f := range l.out {
		l.land(f, jetstream.ErrJetStreamPublisherClosed)
	}
	for _, s := range l.stages {
		l.giveUp(s, time.Time{}, jetstream.ErrJetStreamPublisherClosed)
	}
	l.stages = nil
	l.mu.Unlock()
	_ = l.acks.Unsubscribe() // fails on a closed connection only
	l.asking.Wait()
}

// pending is how many messages wait for their acknowledgement.
func (l *lane) pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// enter waits for room for a message, stallWait at most. The error is
// jetstream.ErrTooManyStalledMsgs.
func (l *lane) enter(keyed bool, cost int64) error {
	if !acquire(l.room, cost) {
		return jetstream.ErrTooManyStalledMsgs
	}
	if keyed && !acquire(l.keyed, 1) {
		l.room.Release(cost)
		return jetstream.ErrTooManyStalledMsgs
	}
	return nil
}

func acquire(s *semaphore.Weighted, n int64) bool {
	if s.TryAcquire(n) {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), stallWait)
	defer cancel()
	return s.Acquire(ctx, n) == nil
}

// add puts a message into the lane and returns its flight and its place there.
// msgID is that of a message with an idempotency key. A message without one
// is sent at the next dispatch, or when the pack in flight has landed.
func (l *lane) add(m *proto.Message, private proto.Private, msgID string) (f *flight, place int, err error) {
	cost := 1 + int64(len(m.Data))/roomUnit
	if err := l.enter(msgID != "", cost); err != nil {
		return nil, 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		l.room.Release(cost)
		if msgID != "" {
			l.keyed.Release(1)
		}
		return nil, 0, jetstream.ErrJetStreamPublisherClosed
	}
	l.waiting++
	m.Time = l.clock.text(private.Accepted)
	channel := proto.ChannelHash(m.Channel)
	if msgID != "" {
		f = l.newFlight(private.Accepted)
		f.keyed, f.channel, f.cost = true, channel, cost
		f.pack.Add(m, private)
		l.hashes = f.seal(proto.SubjectPacks, msgID, l.hashes)
		f.refs.Add(1)
		l.queue(f)
		l.flushLocked()
		return f, 0, nil
	}
	f = l.open(m, private.Accepted, channel)
	place = f.pack.Add(m, private)
	f.cost += cost
	f.refs.Add(1)
	l.flushLocked()
	return f, place, nil
}

// open is the pack to which the message is added: the last one, unless it is full, or
// a message of the channel already waits behind it.
func (l *lane) open(m *proto.Message, now time.Time, channel uint32) *flight {
	if n := len(l.stages); n > 0 {
		if s := l.stages[n-1]; s.pack != nil && s.pack.pack.HasRoom(m, l.maxPack()) && !s.followed(channel) &&
			(l.trouble == nil || now.Sub(s.pack.born) < stageSpan) {
			return s.pack
		}
	}
	f := l.newFlight(now)
	l.stages = append(l.stages, &stage{pack: f})
	if len(l.stages) > 1 { // the one before is complete
		l.pump()
	}
	return f
}

// maxPack is how long a pack may be: what NATS accepts, if that is less than
// proto.MaxPackBytes.
func (l *lane) maxPack() int {
	if payload := l.stream.payload.Load(); payload > 0 {
		return min(proto.MaxPackBytes, int(payload)-headerBytes)
	}
	return proto.MaxPackBytes
}

// headerBytes is room for the headers of a pack of 1024 messages with a few
// prefixes each.
const headerBytes = 24 << 10

// queue sends a keyed flight, or puts it behind the pack that it must not overtake.
func (l *lane) queue(f *flight) {
	n := len(l.stages)
	wait := n > 0 && slices.ContainsFunc(l.stages, func(s *stage) bool { return s.holds(f.channel) })
	if l.trouble != nil || l.mustWait(f) {
		wait = true
	}
	if !wait {
		l.send(f)
		return
	}
	if n == 0 {
		l.stages = append(l.stages, &stage{})
		n = 1
	}
	s := l.stages[n-1]
	s.after = append(s.after, f)
	l.pump()
}

// mustWait reports whether a keyed flight has to wait, in a cluster, for what is
// in flight on its channel.
func (l *lane) mustWait(f *flight) bool {
	return l.stream.clustered.Load() && (l.channels[f.channel] > 0 || l.pack != nil && l.pack.pack.Holds(f.channel))
}

// packMustWait is mustWait for a pack.
func (l *lane) packMustWait(f *flight) bool {
	if !l.stream.clustered.Load() {
		return false
	}
	for channel := range l.channels {
		if f.pack.Holds(channel) {
			return true
		}
	}
	return false
}

// pump sends the stages in order, up to the first that has to wait. The caller holds mu, and calls flushLocked after
// it.
func (l *lane) pump() {
	for l.trouble == nil && len(l.stages) > 0 {
		s := l.stages[0]
		if s.pack != nil {
			if l.pack != nil || l.packMustWait(s.pack) {
				return
			}
			l.pack, s.pack = s.pack, nil
			l.hashes = l.pack.seal(proto.SubjectPacks, l.ids+strconv.FormatUint(l.number+1, 36), l.hashes)
			l.metrics.pack.Observe(float64(l.pack.pack.Len()))
			l.send(l.pack)
		}
		for len(s.after) > 0 {
			if l.mustWait(s.after[0]) {
				return
			}
			l.send(s.after[0])
			s.after = s.after[1:]
		}
		l.stages = l.stages[1:]
	}
}

// send gives a flight its number and makes the first attempt.
func (l *lane) send(f *flight) {
	l.number++
	f.number = l.number
	f.msg.Reply = l.reply(f.number)
	l.out[f.number] = f
	if f.keyed {
		l.channels[f.channel]++
	}
	l.depart(f)
}
