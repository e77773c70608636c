package gateway

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/natsx"
)

// plan is how a client is brought up to date.
type plan struct {
	names []string
	since uint64 // everything after it is to be sent
	last  bool   // the newest message of each channel comes first
	gap   string // reason why messages before since are missing; empty: none
	asked string // the client's own words, for the gap frame
}

// streamWait bounds one question to the stream while a client waits.
const streamWait = 10 * time.Second

// plan decides from where on a client can be served. An error means that
// since is not an id.
func (c *session) plan(since string, names []string) (plan, error) {
	p := plan{names: names, asked: since}
	switch since {
	case proto.SinceAll:
		return p, nil
	case proto.SinceLast:
		p.since, p.last = c.s.hub.Recent().Last(), true
		return p, nil
	}
	cur, err := proto.ParseCursor(since)
	if err != nil {
		return plan{}, err
	}
	position := c.s.hub.Recent().Last()
	p.since = cur.Seq
	switch {
	case cur.Epoch != c.s.feed.cursor(0).Epoch:
		p.since, p.gap = position, proto.GapEpoch
	case cur.Seq > position:
		// An id from a gateway that is ahead of this one, or an invented one.
		if last, err := c.lastStored(); err == nil && cur.Seq > last {
			p.since, p.gap = position, proto.GapEpoch
		}
	case cur.Seq < c.s.hub.Recent().Floor():
		info, err := c.streamInfo()
		if err != nil {
			break // the fetch that follows says so
		}
		if first := info.first; cur.Seq+1 < first {
			p.since, p.gap = first-1, proto.GapExpired
		}
	}
	return p, nil
}

func (c *session) lastStored() (uint64, error) {
	info, err := c.streamInfo()
	return info.last, err
}

type streamInfo struct{ first, last uint64 }

func (c *session) streamInfo() (streamInfo, error) {
	ctx, cancel := context.WithTimeout(c.s.sessions, streamWait)
	defer cancel()
	info, err := c.s.feed.stream.Info(ctx)
	if err != nil {
		return streamInfo{}, fmt.Errorf("read the state of stream %s: %w", proto.Stream, err)
	}
	return streamInfo{first: info.State.FirstSeq, last: info.State.LastSeq}, nil
}

// catchUp sends what the plan says is missed and makes the subscriptions
// live. It returns once the client is live, or with the reason why it cannot
// be: conn.ErrClosed, or that the stream does not answer. channel names the
// one subscription that is meant; empty means the connection's first ones.
//
// Chunks are sent from the stream (long away), then from memory, each waiting
// until the client has read enough; the last few messages and the step to
// live happen in the hub's shard, so that nothing can come between.
func (c *session) catchUp(p plan, channel string) error {
	if p.gap != "" {
		c.s.m.resumes.WithLabelValues(p.gap).Inc()
		c.gap(p.gap, p.asked, p.since, channel)
	}
	if p.last {
		if err := c.sendLast(p); err != nil {
			return err
		}
	}
	complete, from := p.gap == "", "memory"
	left := &budget{messages: c.s.cfg.ReplayMessages, bytes: c.s.cfg.ReplayBytes}
	for since := p.since; ; {
		joined := c.join(since, p.names, func(j hub.Joined) {
			if channel != "" {
				c.subscribed(channel, complete, j.Position)
			}
		})
		if joined.OK {
			if complete {
				c.s.m.resumes.WithLabelValues(from).Inc()
			}
			return nil
		}
		next, stream, err := c.sendSome(p, since, left)
		if err != nil {
			return err
		}
		if stream {
			from = "stream"
		}
		if left.spent() {
			c.s.m.resumes.WithLabelValues(proto.GapLimit).Inc()
			complete = false
			tail := min(replayTail, c.s.cfg.ReplayMessages)
			since, next = next, max(next, c.s.hub.Recent().Newest(p.names, tail))
			c.gap(proto.GapLimit, c.id(since), next, channel)
			left.messages, left.bytes = tail+chunk, c.s.cfg.ReplayBytes
		}
		since = next
	}
}

// replayTail is how many of the newest messages a client gets that missed
// more than it may be sent.
const replayTail = 1000

// budget is what one resume may still be sent.
type budget struct{ messages, bytes int }

func (b *budget) spent() bool { return b.messages <= 0 || b.bytes <= 0 }

func (b *budget) spend(bytes int) { b.messages--; b.bytes -= bytes }

func (c *session) gap(reason, since string, upTo uint64, channel string) {
	c.tell(proto.Gap{Type: proto.FrameGap, Reason: reason, Since: since, ID: c.id(upTo), Channel: channel})
}

// sendSome sends the next chunk after since, from memory if it reaches back
// that far, else from the stream, and returns up to where the client now has
// everything.
func (c *session) sendSome(p plan, since uint64, b *budget) (next uint64, stream bool, err error) {
	upTo := c.s.hub.Recent().Last()
	missed, more, ok := c.s.hub.Recent().Between(since, upTo, p.names, chunk)
	if !ok {
		next, err = c.sendStored(p, since, upTo, b)
		return next, true, err
	}
	for _, m := range missed {
		if b.spent() {
			return since, false, nil
		}
		since = m.Seq
		if c.has(m.Channel, m.Seq) {
			continue
		}
		if err := c.conn.SendWait(c.s.sessions, m.Encoded(nativeEncoding)); err != nil {
			return 0, false, err
		}
		b.spend(len(m.Body))
	}
	if more {
		return since, false, nil
	}
	return max(since, upTo), false, nil
}

// chunk is how many messages are taken from memory or from the stream at once.
const chunk = 256

// sendStored sends one chunk from the stream: a page of each name, merged in
// stream order, up to where the shortest page ends.
func (c *session) sendStored(p plan, since, upTo uint64, b *budget) (next uint64, err error) {
	select {
	case c.s.replays <- struct{}{}:
	case <-c.s.sessions.Done():
		return 0, c.s.sessions.Err()
	}
	merged, end, err := c.fetch(p.names, since, upTo)
	<-c.s.replays
	if err != nil {
		return 0, err
	}
	for _, r := range merged {
		if b.spent() {
			return since, nil
		}
		since = r.Seq
		if c.has(r.Channel, r.Seq) {
			continue
		}
		m := c.s.feed.message(r)
		if err := c.conn.SendWait(c.s.sessions, m.Encoded(nativeEncoding)); err != nil {
			return 0, err
		}
		c.s.m.replayed.Inc()
		b.spend(len(m.Body))
	}
	return end, nil
}

// fetch reads a page of each name after since and merges them. The result is
// complete up to end: at most upTo, which is known to be stored, so that a
// page without more to come is complete up to there.
func (c *session) fetch(names []string, since, upTo uint64) (merged []natsx.Received, end uint64, err error) {
	ctx, cancel := context.WithTimeout(c.s.sessions, streamWait)
	defer cancel()
	end = upTo
	for _, name := range names {
		page, err := natsx.Fetch(ctx, c.s.deps.NATS, natsx.Query{Pattern: name, From: since + 1, Batch: chunk, MaxBytes: fetchBytes})
		if err != nil {
			return nil, 0, err
		}
		merged = append(merged, page.Messages...)
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
	if end == since {
		return nil, 0, errLagging
	}
	slices.SortFunc(merged, func(a, b natsx.Received) int {
		switch {
		case a.Seq < b.Seq:
			return -1
		case a.Seq > b.Seq:
			return 1
		}
		return 0
	})
	merged = slices.CompactFunc(merged, func(a, b natsx.Received) bool { return a.Seq == b.Seq }) // overlapping names
	for len(merged) > 0 && merged[len(merged)-1].Seq > end {
		merged = merged[:len(merged)-1]
	}
	return merged, end, nil
}

// sendLast sends the newest message of each channel, up to where the client
// goes live.
func (c *session) sendLast(p plan) error {
	if p.since == 0 {
		return nil // nothing is stored
	}
	ctx, cancel := context.WithTimeout(c.s.sessions, streamWait)
	defer cancel()
	newest, err := natsx.FetchLast(ctx, c.s.deps.NATS, p.names, p.since)
	if err != nil {
		return err
	}
	for _, r := range newest {
		if err := c.conn.SendWait(c.s.sessions, c.s.feed.message(r).Encoded(nativeEncoding)); err != nil {
			return err
		}
	}
	return nil
}
