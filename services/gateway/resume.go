package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go/jetstream"
)

// plan is how a client is brought up to date.
type plan struct {
	names []string
	epoch string // of every id that the client is given on the way
	since uint64 // everything after it is to be sent
	last  bool   // the newest message of each channel comes first
	gap   string // reason why messages before since are missing; empty: none
	asked string // the client's own words, for the gap frame
}

func (p *plan) id(seq uint64) string { return proto.Cursor{Epoch: p.epoch, Seq: seq}.String() }

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
		p.since = max(state.FirstSeq, 1) - 1
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
	case cur.Epoch != at.Epoch:
		p.since, p.gap = at.Seq, proto.GapEpoch
	case cur.Seq > at.Seq:
		// An id from a gateway that is ahead of this one, or an invented one.
		stored, err := c.stored(cur.Seq)
		if err != nil {
			return plan{}, err
		}
		if !stored {
			p.since, p.gap = at.Seq, proto.GapEpoch
		}
	case cur.Seq < c.s.hub.Recent().Floor():
		state, err := c.streamState()
		if err != nil {
			return plan{}, err
		}
		if cur.Seq+1 < state.FirstSeq {
			p.since, p.gap = state.FirstSeq-1, proto.GapExpired
		}
	}
	return p, nil
}

// stored reports whether the stream has got as far as seq. A leader of a
// cluster may have to catch up first.
func (c *session) stored(seq uint64) (bool, error) {
	for deadline := time.Now().Add(streamWait / 2); ; {
		info, err := c.streamInfo()
		if err != nil || info.State.LastSeq >= seq {
			return err == nil, err
		}
		if info.Cluster == nil || time.Now().After(deadline) {
			return false, nil
		}
		select {
		case <-c.s.sessions.Done():
			return false, c.s.sessions.Err()
		case <-time.After(tickEvery / 2):
		}
	}
}

func (c *session) streamState() (jetstream.StreamState, error) {
	info, err := c.streamInfo()
	if err != nil {
		return jetstream.StreamState{}, err
	}
	return info.State, nil
}

func (c *session) streamInfo() (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(c.s.sessions, streamWait)
	defer cancel()
	info, err := c.s.feed.stream.Info(ctx)
	if err == nil {
		err = natsx.Believable(info.Cluster)
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of stream %s: %w", proto.Stream, err)
	}
	return info, nil
}

// replay is a plan being carried out; since moves on.
type replay struct {
	plan
	channel  string // the one subscription that is meant; empty: the connection's first ones
	live     uint64 // what is after it comes, or came, through the subscription of this name that there is; hub.Now: none
	had      uint64 // what is after it was sent without a gap
	complete bool   // nothing had to be left out so far
	from     string // memory or stream, for the metric

	messages, bytes int // what may still be sent
}

func (r *replay) spent() bool { return r.messages <= 0 || r.bytes <= 0 }

const (
	// chunk is how many messages are taken from memory or from the stream at once.
	chunk = 256
	// replayTail is how many of the newest messages a client gets that missed
	// more than it may be sent.
	replayTail = 1000
)

// catchUp sends what the plan says is missed and makes the subscriptions
// live. It returns once the client is live, or with the reason why it cannot
// be: conn.ErrClosed, natsx.ErrTooManyChannels, or that the stream does not
// answer. channel names the one subscription that is meant; empty means the
// connection's first ones.
//
// Chunks are sent from the stream (long away), then from memory, each waiting
// until the client has read enough; the last few messages and the step to
// live happen in the hub's shard, so that nothing can come between.
func (c *session) catchUp(p plan, channel string) error {
	r := &replay{
		plan: p, channel: channel, live: c.hasAfter(channel), had: p.since, complete: true, from: "memory",
		messages: c.s.cfg.ReplayMessages, bytes: c.s.cfg.ReplayBytes,
	}
	if p.gap != "" {
		c.gap(r, p.gap, p.asked, p.since)
	}
	if p.last {
		if err := c.sendLast(r); err != nil {
			return err
		}
	}
	// To look far back is not the shard's business.
	for far := c.s.hub.Recent().Last().Seq > r.since+chunk; ; far = false {
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

// goLive subscribes, if what is missed is little enough.
func (c *session) goLive(r *replay) bool {
	since := r.since
	if r.live != hub.Now {
		if since < r.live {
			return false
		}
		since = hub.Now // live already: only what came before was missed
	}
	return c.join(r.had, since, r.names, func(j hub.Joined) {
		switch {
		case r.channel != "":
			c.tell(subscribed(r.channel, r.complete, j.Position.String()))
		case r.last:
			c.conn.Push(c.words.place(j.Position.String()))
		}
	})
}

// gap says that the messages after since up to upTo are left out.
func (c *session) gap(r *replay, reason, since string, upTo uint64) {
	r.complete, r.had = false, upTo
	c.s.m.resumes.WithLabelValues(reason).Inc()
	c.tell(proto.Gap{Type: proto.FrameGap, Reason: reason, Since: since, ID: r.id(upTo), Channel: r.channel})
}

// skip leaves out all but the newest messages, for a client that has been
// sent as many as it may be.
func (c *session) skip(r *replay) {
	tail := min(replayTail, c.s.cfg.ReplayMessages)
	if upTo := min(c.s.hub.Recent().Newest(r.names, tail), r.live); upTo > r.since {
		c.gap(r, proto.GapLimit, r.id(r.since), upTo)
		r.since = upTo
	}
	r.messages, r.bytes = tail+chunk, c.s.cfg.ReplayBytes
}

// send sends one message of a replay, unless it comes, or came, through a
// subscription that is live.
func (c *session) send(r *replay, m *hub.Message, e *hub.Encoding) error {
	r.since = m.Seq
	if c.has(m.Channel, m.Seq) {
		return nil
	}
	r.messages--
	r.bytes -= len(m.Body)
	return c.conn.SendWait(c.s.sessions, m.Encoded(e))
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
		return c.sendStored(r, upTo.Seq)
	}
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

// sendStored sends one chunk from the stream: a page of each name, merged in
// stream order, up to where the shortest page ends.
func (c *session) sendStored(r *replay, upTo uint64) error {
	r.from = "stream"
	select {
	case c.s.replays <- struct{}{}:
	case <-c.s.sessions.Done():
		return c.s.sessions.Err()
	}
	if c.conn.Reason() != 0 { // it left while it waited for its turn
		<-c.s.replays
		return conn.ErrClosed
	}
	merged, end, err := c.fetch(r.names, r.since, upTo)
	<-c.s.replays
	if err != nil {
		return err
	}
	// Retention does not wait for slow clients. Asked after the fetch: what is
	// there now was there then.
	state, err := c.streamState()
	if err != nil {
		return err
	}
	if first := state.FirstSeq; first > r.since+1 {
		c.gap(r, proto.GapExpired, r.id(r.since), first-1)
		end = max(end, first-1)
	}
	for _, received := range merged {
		c.s.m.replayed.Inc()
		if err := c.send(r, newMessage(r.epoch, received), c.words.single); err != nil || r.spent() {
			return err
		}
	}
	r.since = end
	return nil
}

// fetch reads a page of each name after since and merges them. The result is
// complete up to end: at most upTo, which is known to be stored, so that a
// page without more to come is complete up to there.
func (c *session) fetch(names []string, since, upTo uint64) (merged []natsx.Received, end uint64, err error) {
	ctx, cancel := context.WithTimeout(c.s.sessions, streamWait)
	defer cancel()
	for end = since; end == since; {
		if merged, end, err = c.fetchPages(ctx, names, since, upTo); err != nil {
			return nil, 0, err
		}
		if end == since { // the replica that answered lags behind
			select {
			case <-ctx.Done():
				return nil, 0, errLagging
			case <-time.After(lagPause):
			}
		}
	}
	slices.SortFunc(merged, func(a, b natsx.Received) int { return cmp.Compare(a.Seq, b.Seq) })
	merged = slices.CompactFunc(merged, func(a, b natsx.Received) bool { return a.Seq == b.Seq }) // overlapping names
	for len(merged) > 0 && merged[len(merged)-1].Seq > end {
		merged = merged[:len(merged)-1]
	}
	return merged, end, nil
}

// lagPause is how long a replica is given to catch up with its leader.
const lagPause = 20 * time.Millisecond

func (c *session) fetchPages(ctx context.Context, names []string, since, upTo uint64) (all []natsx.Received, end uint64, err error) {
	end = upTo
	for _, name := range names {
		page, err := natsx.Fetch(ctx, c.s.deps.NATS, natsx.Query{
			Pattern: name, From: since + 1, Batch: chunk, MaxBytes: max(fetchBytes/len(names), 64<<10),
		})
		if err != nil {
			return nil, 0, err
		}
		all = append(all, page.Messages...)
		last := since
		if n := len(page.Messages); n > 0 {
			last = page.Messages[n-1].Seq
		}
		if page.More {
			end = min(end, last)
			continue
		}
		// The end of what a replica has; its leader may have more.
		next, err := natsx.Next(ctx, c.s.deps.NATS, name, last+1)
		if err != nil {
			return nil, 0, err
		}
		if next != 0 {
			end = min(end, next-1)
		}
	}
	return all, end, nil
}

// sendLast sends the newest message of each channel, up to where the client
// goes live.
func (c *session) sendLast(r *replay) error {
	if r.since == 0 {
		return nil // nothing is stored
	}
	ctx, cancel := context.WithTimeout(c.s.sessions, streamWait)
	defer cancel()
	newest, err := natsx.FetchLast(ctx, c.s.deps.NATS, r.names, r.since)
	if err != nil {
		return err
	}
	since := r.since
	for _, received := range newest {
		if err := c.send(r, newMessage(r.epoch, received), c.words.single); err != nil {
			return err
		}
	}
	r.since = since
	return nil
}
