package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// feed hands every stored message to the hub, in stream order, none missing,
// none twice; ephemeral ones as they come.
//
// It holds one subscription to all live subjects. Stored messages bear their
// stream sequence, so whatever is missing shows as a hole before the next
// one: a dropped connection, an overflow here, a leader that died between
// storing and republishing. The missing ones are fetched from the stream
// before anything later is handed on. What is missing at the very end, with
// nothing after it, is found by asking for the stream's last sequence once a
// second while it is quiet.
//
// The sequence is believed: whoever may publish under herald.live can say the
// next one before the stream does. NATS permissions are to leave that to
// Herald's services.
type feed struct {
	nc     *nats.Conn
	stream jetstream.Stream // set by start, before started
	reader *natsx.Reader
	hub    *hub.Hub
	log    *slog.Logger
	m      *metrics
	tracer trace.Tracer // nil: no spans

	live   chan *nats.Msg // NATS writes, run reads; never closed
	canary string         // subject of the feed's message to itself

	started atomic.Bool // there is a stream, and the hub knows where it stands
	// epochs are those of the ids that are given out; set before started. The
	// epoch in at, and in the hub's places, only tells one beginning of the feed
	// from another: ids are made by id.
	epochs atomic.Pointer[natsx.Epochs]

	maxAge atomic.Int64 // of the stream, nanoseconds; 0: none

	// Owned by run.
	process string // id of the nats-server process that messages come from
	settled bool   // its epoch has begun
	subs    []*nats.Subscription
	at      uint64    // the stream sequence of the newest pack handed to the hub
	quiet   bool      // nothing new came since the last tick
	doubt   bool      // something came that should be known: the tick asks the stream
	behind  time.Time // since when the stream says that it stands before at; zero: it does not

	heard atomic.Int64 // monotonic.Now when a canary came through run last
	pulse *natsx.Pulse // of the stream
}

// Bounds of the feed.
const (
	// liveBuffer is how many NATS messages may wait here; beyond it nats.go
	// drops, and the hole is repaired from the stream.
	liveBuffer = 16 << 10
	// tickEvery is how soon a silent tail is noticed, and how often the canary sings.
	tickEvery = time.Second
	// canaryLate is after how long without its canary the feed is not ready.
	canaryLate = 5 * time.Second
)

func newFeed(nc *nats.Conn, reader *natsx.Reader, h *hub.Hub, log *slog.Logger, m *metrics, tracer trace.Tracer, id string) *feed {
	return &feed{
		nc: nc, reader: reader, hub: h, log: log, m: m, tracer: tracer, pulse: natsx.NewPulse(nc, log),
		live: make(chan *nats.Msg, liveBuffer), canary: "herald.canary." + id,
	}
}

// start subscribes, so that nothing that is stored from now on is missed, and
// only then asks where the stream stands. It waits until there is a stream.
// The subscriptions are for stop to end, also after an error.
func (f *feed) start(ctx context.Context) error {
	js, err := jetstream.New(f.nc)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	if f.stream, err = natsx.AwaitStream(ctx, js, f.pulse, f.log); err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	for _, subject := range []string{proto.SubjectLive + ">", f.canary} {
		sub, err := f.nc.ChanSubscribe(subject, f.live)
		if err != nil {
			return fmt.Errorf("feed: subscribe to %s: %w", subject, err)
		}
		f.subs = append(f.subs, sub)
	}
	for {
		info, err := f.stream.Info(ctx)
		if err == nil {
			f.heard.Store(monotonic.Now())
			f.pulse.Answered(info.Cluster)
			f.process = f.nc.ConnectedServerId()
			state := natsx.StateOf(info)
			f.maxAge.Store(int64(info.Config.MaxAge))
			f.settled = state.Epochs.Foresees(f.nc)
			f.begin(state, false)
			f.started.Store(true)
			return nil
		}
		f.log.Warn("the stream does not say where it stands; asking again", "stream", proto.Stream, "err", err)
		f.pulse.Missed(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (f *feed) stop() {
	for _, sub := range f.subs {
		_ = sub.Unsubscribe() // fails only when the connection is closed
	}
}

// begin starts after what is stored now. The epoch in the hub's places only
// tells one beginning from another.
func (f *feed) begin(state natsx.State, reset bool) {
	f.epochs.Store(&state.Epochs)
	f.at = state.Last
	f.behind = time.Time{}
	f.hub.Start(f.id(proto.EndOf(f.at)), reset)
	f.m.position.Set(float64(f.at))
	f.log.Info("following the stream", "epoch", state.Epochs.Newest(), "seq", f.at)
}

// id is the id of a message, or of a place, of the stream.
func (f *feed) id(number uint64) proto.Cursor {
	return proto.Cursor{Epoch: f.epochs.Load().At(proto.PackOf(number)), Seq: number}
}

// run starts, and hands messages on until ctx ends.
func (f *feed) run(ctx context.Context) error {
	defer f.stop()
	if err := f.start(ctx); err != nil {
		return err
	}
	lost := f.nc.StatusChanged(nats.RECONNECTING, nats.CONNECTED)
	defer f.nc.RemoveStatusListener(lost)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg := <-f.live:
			if f.moved(ctx) {
				continue // msg may be of the old process
			}
			f.receive(ctx, msg)
		case status, ok := <-lost:
			if ok && status == nats.CONNECTED {
				f.moved(ctx)
				f.check(ctx)
			} else if !ok {
				lost = nil
			}
		case <-tick.C:
			_ = f.nc.Publish(f.canary, nil) // an error is a canary that does not come back
			ask := f.quiet || f.doubt
			f.quiet, f.doubt = true, false
			if ask {
				f.check(ctx)
			}
		}
	}
}

func (f *feed) receive(ctx context.Context, msg *nats.Msg) {
	if msg.Subject == f.canary {
		f.heard.Store(monotonic.Now())
		return
	}
	p, err := natsx.OpenPack(msg)
	switch {
	case err != nil:
		// Its sequence, if it has one, may be invented. If it is not, it is a hole
		// before the next message, and found to hold nothing.
		f.m.foreign.Inc()
		f.log.Debug("ignored a NATS message that is not Herald's", "err", err)
		return
	case p.Seq == 0:
		f.publish(&p, "ephemeral")
		return
	case p.Seq <= f.at: // fetched already, or the stream was made anew
		f.doubt = true
		return
	case p.Seq > f.at+1:
		f.log.Warn("live messages are missing; fetching them from the stream", "seq", f.at+1, "upto", p.Seq-1)
		f.m.repaired.Inc()
		f.repair(ctx, p.Seq-1)
		if p.Seq != f.at+1 {
			return // fetched with the others, or its sequence was invented
		}
	}
	if !f.settled {
		f.check(ctx)
		if p.Seq != f.at+1 {
			return // check has repaired it
		}
	}
	f.quiet = false
	f.pulse.Alive()
	f.publish(&p, "live")
}

// publish hands the messages of a pack on, in order.
func (f *feed) publish(p *natsx.Pack, from string) {
	n, newest := 0, time.Time{}
	for ; p.Next(); n++ {
		channel, body := string(p.Channel()), p.Message()
		if body == nil || proto.CheckChannel(channel) != nil {
			f.m.foreign.Inc()
			f.log.Debug("ignored a line that is no Herald message", "seq", p.Seq, "place", p.Place())
			continue
		}
		// Each message has memory of its own: it may stay for long, its pack must not.
		m := &hub.Message{Channel: channel, Except: string(p.Except())}
		if us := p.Accepted(); us > 0 {
			m.Accepted = time.UnixMicro(us)
		}
		if p.Seq == 0 {
			m.Body = bytes.Clone(body)
			f.hub.Publish(m)
			continue
		}
		id := f.id(proto.Number(p.Seq, p.Place()))
		m.Seq, m.ID, m.Expires = id.Seq, id.String(), p.Expires()
		m.Body = proto.AppendWithID(make([]byte, 0, len(body)+48), id, body)
		f.trace(m, string(p.Traceparent()))
		f.hub.Publish(m)
		newest = m.Accepted
	}
	if !newest.IsZero() {
		f.m.age.Set(max(0, time.Since(newest).Seconds()))
	}
	f.m.received.WithLabelValues(from).Add(float64(n))
	if p.Seq > 0 {
		f.pass(p.Seq)
	}
	if !newest.IsZero() {
		f.m.age.Set(max(0, time.Since(newest).Seconds()))
	}
}

// pass moves on past everything up to and including a pack.
func (f *feed) pass(seq uint64) {
	f.at = seq
	f.hub.Pass(proto.EndOf(seq))
	f.m.position.Set(float64(seq))
}

// newMessage splices the id in, once for all clients.
func newMessage(id proto.Cursor, r natsx.Received) *hub.Message {
	return &hub.Message{
		Seq:      r.Number,
		Channel:  r.Channel,
		ID:       id.String(),
		Body:     proto.AppendWithID(make([]byte, 0, len(r.Body)+48), id, r.Body),
		Accepted: r.Accepted,
		Expires:  r.Expires,
		Except:   r.Except,
	}
}

// errNoStream: ingest has not declared it.
var errNoStream = fmt.Errorf("stream %s is not there yet; ingest declares it", proto.Stream)

// ready is the check behind /readyz.
func (f *feed) ready(context.Context) error {
	if !f.nc.IsConnected() {
		return errors.New("not connected to NATS")
	}
	if !f.started.Load() {
		return errNoStream
	}
	if silent := monotonic.Since(f.heard.Load()); silent > canaryLate {
		return fmt.Errorf("the canary has not come back for %s", silent.Round(time.Second))
	}
	return f.pulse.Err()
}

// check compares with the stream: is there more than what came, is it still
// the same stream?
func (f *feed) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, canaryLate/2) // the canary waits meanwhile
	defer cancel()
	info, err := f.stream.Info(ctx)
	if err != nil {
		f.log.Debug("the stream does not answer", "err", err)
		f.pulse.Missed(err)
		return
	}
	if !f.pulse.Answered(info.Cluster) {
		f.doubt = true
		return
	}
	state := natsx.StateOf(info)
	f.settled = state.Epochs.Foresees(f.nc)
	f.maxAge.Store(int64(info.Config.MaxAge))
	if state.Last >= f.at {
		f.behind = time.Time{}
	} else if f.behind.IsZero() {
		f.behind = time.Now()
	}
	switch {
	case !state.Epochs.Same(*f.epochs.Load(), f.at):
		f.log.Warn("the stream was made anew, or lost its newest messages; clients are told to start over", "stream", proto.Stream, "epoch", state.Epochs.Newest())
		f.m.lost.Inc()
		f.begin(state, true)
	case state.Last < f.at && time.Since(f.behind) >= patienceWith(state):
		f.log.Error("the stream has lost its newest messages; clients are told to start over", "stream", proto.Stream, "seq", state.Last+1, "upto", f.at)
		f.m.lost.Inc()
		f.begin(f.renewed(ctx, state), true)
	case state.Last < f.at:
		f.doubt = true // the next tick asks again
	default:
		f.epochs.Store(&state.Epochs) // another may have begun behind at
		if state.Last > f.at {
			// Perhaps they are in the queue already: they will be dropped as known.
			f.repair(ctx, state.Last)
		}
	}
}

// renewed has ingest begin another epoch, because the stream ends before
// something that was handed on. While no ingest is there, nothing of Herald's is
// stored either.
func (f *feed) renewed(ctx context.Context, state natsx.State) natsx.State {
	if err := natsx.ReportLoss(ctx, f.nc, state.Epochs.Newest(), f.at); err != nil {
		f.log.Warn("nobody begins another epoch for a stream that has lost messages; is ingest running?", "err", err)
		return state
	}
	if now, err := f.reader.State(ctx); err == nil {
		return now
	}
	return state
}

// epochWait is how long ingest may take to begin an epoch for a server that
// was started anew. It does so before it publishes, so that only messages of
// others can come meanwhile.
const epochWait = 3 * time.Second

// moved reports whether messages come from another nats-server process than
// before. Those of the old one that are still queued are dropped: they may be
// lost there, and what is not is repaired from the stream. If the new one is a
// single server, the epoch of what it stores is waited for.
func (f *feed) moved(ctx context.Context) bool {
	process := f.nc.ConnectedServerId()
	if process == f.process || process == "" { // not connected
		return false
	}
	for len(f.live) > 0 {
		<-f.live
	}
	f.process = process
	wait, cancel := context.WithTimeout(ctx, epochWait)
	defer cancel()
	for wait.Err() == nil {
		if state, err := f.reader.State(wait); err == nil && state.Epochs.Foresees(f.nc) {
			break
		}
		select {
		case <-wait.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	f.doubt = true // if the stream does not answer now, the next tick asks it
	f.check(ctx)
	return true
}

// patienceWith is how long a stream may say that it ends before a message that
// it handed out, until that is believed. In a cluster a server that was cut
// off may answer, or a leader that still catches up; a single server was
// restored from a backup, or lost its last writes in a power cut.
func patienceWith(state natsx.State) time.Duration {
	if state.Alone {
		return tickEvery / 2
	}
	return natsx.StreamLate
}

// repair reads what is stored after f.at up to upTo, and hands it on. It
// returns when that is done, when the stream does not go as far, or when ctx
// ended. Clients are told of what retention took meanwhile.
func (f *feed) repair(ctx context.Context, upTo uint64) {
	pause := 20 * time.Millisecond
	for f.at < upTo && ctx.Err() == nil {
		err := f.repairPage(ctx, upTo)
		switch {
		case err == nil:
			continue
		case errors.Is(err, errBeyond):
			f.log.Warn("a NATS message bears a sequence that the stream has not reached; is somebody publishing under "+proto.SubjectLive+"?", "seq", upTo)
			return
		}
		f.log.Debug("could not read from the stream; trying again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

// errBeyond: the stream has not stored that many messages.
var errBeyond = errors.New("beyond the end of the stream")

func (f *feed) repairPage(ctx context.Context, upTo uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	state, err := f.reader.State(ctx)
	if err != nil {
		return err
	}
	// The stream is read as far as it goes: upTo may be invented.
	end := min(upTo, state.Last)
	if end <= f.at {
		return errBeyond
	}
	run, err := f.reader.Packs(ctx, f.at+1, end)
	if err != nil {
		return err
	}
	if run.Missing > 0 {
		if run.Why == natsx.Damaged {
			f.log.Error("the stream is damaged: messages that it stored are gone; clients are told", "seq", f.at+1, "upto", run.Missing)
			f.m.damaged.Add(float64(run.Missing - f.at))
		} else {
			f.log.Warn("messages expired before this gateway could fetch them; clients are told", "seq", f.at+1, "upto", run.Missing)
			f.m.lost.Inc()
		}
		f.hub.Gap(proto.EndOf(f.at), proto.EndOf(run.Missing), run.Why)
		f.pass(run.Missing)
	}
	for i := range run.Packs {
		f.publish(&run.Packs[i], "fetched")
	}
	return nil
}
