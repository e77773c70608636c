package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/natsx"
)

// plan says what is sent to a client that comes back, and where it goes on.
type plan struct {
	names []string
	epoch string // of the hub's position when the plan was made: if it changes, the feed has begun anew
	since uint64 // everything after it is to be sent
	last  bool   // the newest message of each channel comes first
	gap   string // reason why messages before since are missing; empty: none
	asked string // the client's own words, for the gap frame
}

// id is the id of a place in the stream.
func (c *session) id(seq uint64) string { return c.s.feed.id(seq).String() }

// streamWait bounds one question to the stream while a client waits.
const streamWait = 10 * time.Second

// plan decides from where on a client can be served. An error that wraps
// proto.ErrCursor means that since is not an id, any other that the stream
// does not answer.
func (c *session) plan(since string, names []string) (plan, error) {
	at := c.s.hub.Recent().Last()
	p := plan{names: names, epoch: at.Epoch, asked: since}
	switch since {
	case proto.SinceAll:
		state, err := c.streamState()
		if err != nil {
			return plan{}, err
		}
		p.since = proto.EndOf(state.First - 1)
		return p, nil
	case proto.SinceLast:
		p.since, p.last = at.Seq, true
		return p, nil
	}
	cur, err := proto.ParseCursor(since)
	if err != nil {
		return plan{}, err
	}
	p.since = cur.Seq
	switch {
	case cur.Seq > at.Seq, !c.s.feed.epochs.Load().Known(cur.Epoch, proto.PackOf(cur.Seq)):
		// An id from a gateway that is ahead of this one, or of a message that is
		// lost, or an invented one.
		stored, state, err := c.stored(cur)
		switch {
		case err != nil:
			return plan{}, err
		case stored:
			break
		default:
			p.since, p.gap = at.Seq, proto.GapEpoch
			if begins, lost := state.Epochs.Lost(cur.Epoch, proto.PackOf(cur.Seq)); lost {
				p.since = min(at.Seq, proto.EndOf(max(begins, state.First)-1))
			}
		}
	case cur.Seq < c.s.hub.Recent().Floor():
		state, err := c.streamState()
		if err != nil {
			return plan{}, err
		}
		if natsx.FirstAfter(cur.Seq) < state.First {
			p.since, p.gap = proto.EndOf(state.First-1), proto.GapExpired
		}
	}
	return p, nil
}

// stored reports whether the stream has the place that an id names, and where the stream
// stands. A leader of a cluster may have to catch up first; a single server is believed at
// once.
func (c *session) stored(id proto.Cursor) (bool, natsx.State, error) {
	for deadline := time.Now().Add(streamWait / 2); ; {
		state, err := c.streamState()
		if err != nil {
			return false, natsx.State{}, err
		}
		pack := proto.PackOf(id.Seq)
		known := state.Epochs.Known(id.Epoch, pack)
		if !known || state.Last >= pack || state.Alone || time.Now().After(deadline) {
			return known && state.Last >= pack, state, nil
		}
		select {
		case <-c.s.replaying.Done():
			return false, natsx.State{}, c.s.replaying.Err()
		case <-time.After(tickEvery / 2):
		}
	}
}

func (c *session) streamState() (natsx.State, error) {
	ctx, cancel := context.WithTimeout(c.s.replaying, streamWait)
	defer cancel()
	return c.s.reader.State(ctx)
}

// replay is the state of a plan while it is carried out; plan.since is raised to what has been sent.
type replay struct {
	plan
	channel string // the name that a subscribe frame asked for; empty: the names of the URL, together
	answer  answer // sends the answer to that frame
	// end is where the replay ends. If the client follows channel already, it is that subscription's follow.after:
	// later messages reach the client through that subscription. hub.Now: the client does not follow channel yet.
	end uint64
	// had is what the client has without a gap: every message after had, up to since, was sent to it. A gap frame
	// raises it.
	had      uint64
	complete bool   // no gap frame was sent
	from     string // where the messages were read: memory or stream; a label of the metric
	allowed  *rules // under which the client may follow names; nil: not checked yet

	messages, bytes int // what may still be sent before the oldest of the rest are skipped
	sent            int // messages

	// sending bounds how long the client may take to read a page from the stream, whose memory others wait for. It is
	// set from room until its release; nil otherwise.
	sending context.Context
}

func (r *replay) spent() bool { return r.messages <= 0 || r.bytes <= 0 }

const (
	// chunk is how many messages are read from memory or from the stream at once.
	chunk = 256
	// replayBudget is what all pages from the stream may hold in memory, until
	// they are sent; leastPage of it is for each name, and sendTime is how long a
	// client may take to read a page.
	replayBudget = 64 << 20
	leastPage    = 64 << 10
	sendTime     = 20 * time.Second
	// replayTail is how many of the newest messages a client gets that missed
	// more than it may be sent.
	replayTail = 1000
)

// catchUp sends what the plan says is missed and makes the subscriptions
// live. It returns once the client is live, or with the reason why it cannot
// be: conn.ErrClosed, or that the stream does not
// answer. channel names the one subscription that is meant; empty means the
// connection's first ones; answer sends the answer for a single one.
//
// Chunks are sent from the stream, if the client was away for long, then from memory; each waits
// until the client has read enough of those before. The last few messages are delivered, and the
// subscriptions added, in the hub's shard, so that no message can come between.
func (c *session) catchUp(p plan, channel string, answer answer) error {
	r := &replay{
		plan: p, channel: channel, answer: answer, end: c.hasAfter(channel), had: p.since, complete: true,
		from: "memory", messages: c.s.rules.Load().cfg.ReplayMessages, bytes: c.s.rules.Load().cfg.ReplayBytes,
	}
	if p.gap != "" {
		c.gap(r, p.gap, p.asked, p.since)
	}
	if p.last {
		if err := c.sendLast(r); err != nil {
			return err
		}
	}
	for far := c.s.isFar(r.since); ; far = false {
		if now := c.s.rules.Load(); now != r.allowed { // a replay may last
			if r.allowed = now; !c.mayAll(r.names) {
				return errRules
			}
		}
		if !far && c.goLive(r) {
			if r.complete {
				c.s.m.resumes.WithLabelValues(r.from).Inc()
			}
			return nil
		}
		if err := c.sendSome(r); err != nil {
			return err
		}
		if r.spent() {
			c.skip(r)
		}
	}
}

// isFar reports whether the messages in memory after since are so many that a search among them would hold up the
// shard's other subscribers: then the session searches first. They are counted, because the numbers of messages have
// gaps: each pack begins at a multiple of 1024.
func (s *Service) isFar(since uint64) bool {
	recent := s.hub.Recent()
	return recent.Count(since, recent.Last().Seq) > chunk
}

// goLive has the hub subscribe the client from r.since on, and returns false if more has to be replayed before. If the
// client is subscribed already, it only notes how far back the replay reached.
func (c *session) goLive(r *replay) bool {
	since := r.since
	if r.end != hub.Now {
		if since < r.end {
			return false
		}
		since = hub.Now // live already: only what came before was missed
	}
	return c.join(r.had, since, r.names, func(j hub.Joined) {
		switch {
		case r.channel != "" && c.words.caughtUp != nil:
			c.conn.Push(c.words.caughtUp(r.channel, r.last && r.sent == 0))
		case r.channel != "":
			r.answer(subscribed(r.channel, r.complete, c.id(j.Position.Seq)))
		case c.asked.greet != nil:
			c.conn.Push(c.asked.greet(proto.Welcome{Type: proto.FrameWelcome, Connection: c.conn.ID(),
				Channels: r.names, Resumed: r.complete, ID: c.id(j.Position.Seq)}))
		default:
			id := c.id(j.Position.Seq)
			if frames := append(c.words.place(id), c.confirm(r.complete, id)...); len(frames) > 0 {
				c.conn.Push(frames)
			}
		}
	})
}

// gap says that the messages after since up to upTo are left out.
func (c *session) gap(r *replay, reason, since string, upTo uint64) {
	r.complete, r.had = false, upTo
	c.s.m.resumes.WithLabelValues(reason).Inc()
	c.pushControl(proto.Gap{Type: proto.FrameGap, Reason: reason, Since: since, ID: c.id(upTo), Channel: r.channel})
}

// skip leaves out all but the newest messages, for a client that has been
// sent as many as it may be.
func (c *session) skip(r *replay) {
	tail := min(replayTail, c.s.rules.Load().cfg.ReplayMessages)
	c.pay(time.Duration(c.s.cfg.RecentMessages) * scanCost)
	if upTo := min(c.s.hub.Recent().Newest(r.names, tail), r.end); upTo > r.since {
		c.gap(r, proto.GapLimit, c.id(r.since), upTo)
		r.since = upTo
	}
	r.messages, r.bytes = tail+chunk, c.s.rules.Load().cfg.ReplayBytes
}

// send sends one message of a replay, unless the client gets it, or has got it, through a
// subscription that is live.
func (c *session) send(r *replay, m *hub.Message, e *hub.Encoding) error {
	r.since = m.Seq
	if c.has(m.Channel, m.Seq) || m.Expired() || m.Except == c.conn.ID() {
		return nil
	}
	r.messages--
	r.sent++
	r.bytes -= len(m.Body)
	if r.sending == nil {
		return c.conn.SendWait(c.s.replaying, m.Encoded(e))
	}
	err := c.conn.SendWait(r.sending, m.Encoded(e))
	if errors.Is(err, context.DeadlineExceeded) { // others need the memory
		c.conn.Close(proto.CloseSlowConsumer)
		return conn.ErrClosed
	}
	return err
}

// sendSome sends the next chunk, from memory if it reaches back that far,
// else from the stream.
func (c *session) sendSome(r *replay) error {
	upTo := c.s.hub.Recent().Last()
	if upTo.Epoch != r.epoch {
		return conn.ErrClosed // the stream was made anew: the shard is about to say so
	}
	missed, more, ok := c.s.hub.Recent().Between(proto.Cursor{Epoch: r.epoch, Seq: r.since}, upTo.Seq, r.names, chunk)
	if !ok {
		c.pay(time.Duration(len(r.names)) * pageCost)
		return c.sendStored(r, upTo.Seq)
	}
	end := upTo.Seq
	if more && len(missed) > 0 {
		end = missed[len(missed)-1].Seq
	}
	c.pay(time.Duration(c.s.hub.Recent().Count(r.since, end))*scanCost + time.Duration(len(missed))*replayCost)
	for _, m := range missed {
		if err := c.send(r, m, c.words.message); err != nil || r.spent() {
			return err
		}
	}
	if !more {
		r.since = max(r.since, upTo.Seq)
	}
	return nil
}

// sendStored sends one page from the stream.
func (c *session) sendStored(r *replay, upTo uint64) error {
	r.from = "stream"
	release, err := c.room(r, max(c.s.cfg.pageBytes(), len(r.names)*leastPage))
	if err != nil {
		return err
	}
	defer release() // the page is sent
	page, err := c.read(r.names, r.since, upTo)
	if err != nil {
		return err
	}
	if page.Missing > 0 { // retention does not wait for slow clients
		c.gap(r, page.Why, c.id(r.since), page.Missing)
	}
	for _, received := range page.Messages {
		c.s.m.replayed.Inc()
		if err := c.send(r, newMessage(c.s.feed.id(received.Number), received), c.words.single); err != nil ||
			r.spent() {
			return err
		}
	}
	r.since = page.End
	return nil
}

// room waits until so many bytes of replayBudget are free, for a page from the stream. release gives them back;
// until then the client has sendTime to read what it is sent.
func (c *session) room(r *replay, bytes int) (release func(), err error) {
	free, err := c.s.replays.acquire(c.s.replaying, c.conn.Remote(), bytes)
	if err != nil {
		return nil, err
	}
	if c.conn.Reason() != 0 { // it was closed while it waited for its turn
		free()
		return nil, conn.ErrClosed
	}
	ctx, cancel := context.WithTimeout(c.s.replaying, sendTime)
	r.sending = ctx
	return func() {
		r.sending = nil
		cancel()
		free()
	}, nil
}

func (c *session) read(names []string, since, upTo uint64) (natsx.Span, error) {
	ctx, cancel := context.WithTimeout(c.s.replaying, streamWait)
	defer cancel()
	return c.s.reader.Read(ctx, natsx.Range{
		Names: names, Since: since, UpTo: upTo, Messages: chunk, Bytes: c.s.cfg.pageBytes(),
	})
}

// sendLast sends the newest message of each channel, up to where the client
// goes live.
func (c *session) sendLast(r *replay) error {
	c.pay(time.Duration(len(r.names)) * pageCost)
	release, err := c.room(r, c.s.replays.each)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(c.s.replaying, streamWait)
	defer cancel()
	newest, err := c.s.reader.Last(ctx, r.names, r.since, c.s.replays.each)
	if err != nil {
		return err
	}
	since := r.since
	for _, received := range newest {
		if err := c.send(r, newMessage(c.s.feed.id(received.Number), received), c.words.single); err != nil {
			return err
		}
	}
	r.since = since
	return nil
}
