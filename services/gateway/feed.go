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
	"github.com/herald-push/herald/services/internal/retry"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

// feed passes every stored message to the hub, in stream order, none missing, none twice, and ephemeral messages in the
// order in which they come.
//
// It holds one subscription to all live subjects. Stored messages bear their
// stream sequence, so whatever is missing shows as a hole before the next
// one: a dropped connection, an overflow here, a leader that died between
// storing and republishing. The missing ones are fetched from the stream
// before anything later is passed on. A message that is missing at the very end,
// with nothing after it, is found by asking for the stream's last sequence once a
// second while nothing comes.
//
// The feed believes a message's sequence: whoever may publish under herald.live can send one with the
// next sequence before the stream gives it out. NATS permissions are to allow that to
// Herald's services only.
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
	// witness is set when the first live message after begin arrives. An ingest publishes only after it has checked
	// that the stream lost nothing, so from then on this feed knows how far the stream had got, and answers others who
	// ask. What it only read from the stream may come from an older copy of the disk.
	witness atomic.Bool
	// epochs are the stream's, of which id makes the ids that clients get; set before started. The
	// epoch in the hub's positions only tells one beginning of the feed from another.
	epochs atomic.Pointer[natsx.Epochs]

	maxAge atomic.Int64 // of the stream, nanoseconds; 0: none

	// Owned by run.
	process string // id of the nats-server process that messages come from
	settled bool   // ingest has begun the epoch of that process, so sequences after its start belong to it
	subs    []*nats.Subscription
	at      uint64 // the stream sequence of the newest pack that was passed to the hub
	quiet   bool   // nothing new came since the last tick
	// a pack came whose sequence was passed to the hub already: the next tick asks the stream whether it was made anew
	doubt  bool
	behind time.Time // since when the stream's last sequence, as NATS reports it, is below at; zero: it is not

	canaryAt atomic.Int64 // monotonic.Now when run last received a canary
	pulse    *natsx.Pulse // of the stream
}

// Bounds of the feed.
const (
	// liveBuffer is how many NATS messages may wait here; beyond it nats.go
	// drops, and the hole is repaired from the stream.
	liveBuffer = 16 << 10
	// tickEvery is how soon a missing message at the end is noticed, and how often the canary is sent.
	tickEvery = time.Second
	// canaryLate is after how long without its canary the feed is not ready.
	canaryLate = 5 * time.Second
)

func newFeed(nc *nats.Conn, reader *natsx.Reader, h *hub.Hub, log *slog.Logger, m *metrics, tracer trace.Tracer,
	id string) *feed {
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
	for _, subject := range []string{proto.SubjectLive + ">", f.canary, natsx.SubjectRenewed} {
		sub, err := f.nc.ChanSubscribe(subject, f.live)
		if err != nil {
			return fmt.Errorf("feed: subscribe to %s: %w", subject, err)
		}
		f.subs = append(f.subs, sub)
	}
	again := retry.Policy{
		Pause: time.Second,
		Every: f.pulse.Missed,
		Log: func(err error) {
			f.log.Warn("the stream does not say where it stands; asking again", "stream", proto.Stream, "err", err)
		},
	}
	return again.Until(ctx, func(ctx context.Context) error {
		info, err := f.stream.Info(ctx)
		if err != nil {
			return err
		}
		f.canaryAt.Store(monotonic.Now())
		f.pulse.Answered(info.Cluster)
		f.process = f.nc.ConnectedServerId()
		state := natsx.StateOf(info)
		f.maxAge.Store(int64(info.Config.MaxAge))
		f.settled = state.Epochs.Covers(f.nc)
		f.begin(state, false)
		f.started.Store(true)
		return nil
	})
}

func (f *feed) stop() {
	for _, sub := range f.subs {
		_ = sub.Unsubscribe() // fails only when the connection is closed
	}
}

// begin has the hub deliver what is stored from now on. reset says that the stream was made anew.
func (f *feed) begin(state natsx.State, reset bool) {
	f.epochs.Store(&state.Epochs)
	f.at = state.Last
	f.behind = time.Time{}
	f.witness.Store(false)
	f.hub.Start(f.id(proto.EndOf(f.at)), reset)
	f.m.position.Set(float64(f.at))
	f.log.Info("following the stream", "epoch", state.Epochs.Newest(), "seq", f.at)
}

// id is the id of a message, or of a place, of the stream.
func (f *feed) id(number uint64) proto.Cursor {
	return proto.Cursor{Epoch: f.epochs.Load().At(proto.PackOf(number)), Seq: number}
}

// run starts, and passes messages on until ctx ends.
func (f *feed) run(ctx context.Context) error {
	defer f.stop()
	if err := f.start(ctx); err != nil {
		return err
	}
	unserve, err := natsx.ServeKnown(f.nc, func() (epoch string, seq uint64) {
		if !f.witness.Load() {
			return "", 0
		}
		return f.epochs.Load().Newest(), proto.PackOf(f.hub.Recent().Last().Seq)
	})
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	defer unserve()
	lost := f.nc.StatusChanged(nats.RECONNECTING, nats.CONNECTED)
	defer f.nc.RemoveStatusListener(lost)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg := <-f.live:
			if f.switchServer(ctx) {
				continue // msg may be of the old process
			}
			f.receive(ctx, msg)
		case status, ok := <-lost:
			if ok && status == nats.CONNECTED {
				f.switchServer(ctx)
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
	switch msg.Subject {
	case f.canary:
		f.canaryAt.Store(monotonic.Now())
		return
	case natsx.SubjectRenewed: // the ids of what is stored from now on are of another epoch
		f.check(ctx)
		return
	}
	p, err := natsx.OpenPack(msg)
	if err == nil && p.Seq > 0 && !f.behind.IsZero() { // it may have the sequence of a pack that the stream has lost
		f.check(ctx)
	}
	switch {
	case err != nil:
		// Its sequence, if it has one, may be invented, so the feed does not count it. If the stream gave it
		// out, the next message shows a hole there, and the repair finds no message in it.
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
	f.witness.Store(true)
}

// publish passes the messages of a pack on, in order.
func (f *feed) publish(p *natsx.Pack, from string) {
	n, newest, text := 0, int64(0), p.Text()
	var cuts func(uint64, string) *hub.Message
	now := func(uint64, string) *hub.Message { return cut(&p.Lines, nil) }
	for ; p.Next(); n++ {
		ok, line, channel := p.Message() != nil, "", ""
		if ok && text != "" {
			line, channel = p.In(text)
		} else if ok {
			channel = string(p.Channel())
		}
		if !ok || proto.CheckChannel(channel) != nil {
			f.m.foreign.Inc()
			f.log.Debug("ignored a line that is no Herald message", "seq", p.Seq, "place", p.Place())
			continue
		}
		newest = p.Accepted()
		number := proto.Number(p.Seq, p.Place())
		switch {
		case p.Seq == 0:
			f.hub.Offer(hub.Line{Channel: channel, Cut: now})
		case text == "" || f.traces(p): // a span is of every shard, whoever follows
			id := f.id(number)
			m := cut(&p.Lines, &id)
			f.trace(m, string(p.Traceparent()))
			f.hub.Publish(m)
		default:
			if cuts == nil {
				cuts = cutter(f.id(number).Epoch, newest)
			}
			f.hub.Offer(hub.Line{Seq: number, Channel: channel, Accepted: newest, Text: line, Cut: cuts})
		}
	}
	f.m.received.WithLabelValues(from).Add(float64(n))
	if p.Seq > 0 {
		f.pass(p.Seq)
		if newest > 0 {
			f.m.age.Set(ageOf(newest))
		}
	}
}

// ageOf is how long ago another machine's clock says that it accepted a message, in
// seconds; 0 where that clock is ahead.
func ageOf(accepted int64) float64 {
	at := time.UnixMicro(accepted)
	return max(0, time.Since(at).Seconds())
}

// cutter makes messages of the lines of one pack, by their numbers. accepted is when the first
// one was accepted.
func cutter(epoch string, accepted int64) func(number uint64, line string) *hub.Message {
	return func(number uint64, line string) *hub.Message {
		lines := proto.ReadLine([]byte(line), proto.PlaceOf(number), accepted)
		return cut(&lines, &proto.Cursor{Epoch: epoch, Seq: number})
	}
}

// cut copies the current message out of a pack: the message may stay in memory for long, and would
// keep the whole pack there. The id is spliced in once for all clients; it is nil for an ephemeral
// message.
func cut(l *proto.Lines, id *proto.Cursor) *hub.Message {
	m := &hub.Message{Channel: string(l.Channel()), Except: string(l.Except())}
	if us := l.Accepted(); us > 0 {
		m.Accepted = time.UnixMicro(us)
	}
	if id == nil {
		m.Body = bytes.Clone(l.Message())
		return m
	}
	m.Seq, m.ID, m.Expires = id.Seq, id.String(), l.Expires()
	m.Body = proto.AppendWithID(make([]byte, 0, len(l.Message())+48), *id, l.Message())
	return m
}

// pass moves on past everything up to and including a pack.
func (f *feed) pass(seq uint64) {
	f.at = seq
	f.hub.Pass(proto.EndOf(seq))
	f.m.position.Set(float64(seq))
}

// newMessage is a message that was read from the stream, with its id spliced in.
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
	if silent := monotonic.Since(f.canaryAt.Load()); silent > canaryLate {
		return fmt.Errorf("the canary has not come back for %s", silent.Round(time.Second))
	}
	return f.pulse.Err()
}
