package faults

import (
	"time"

	"github.com/herald-push/herald/proto"
)

// newer moves the newest id; mu is held.
func (c *client) newer(id proto.Cursor) {
	if id.Epoch != c.id.Epoch || id.Seq > c.id.Seq {
		c.id = id
	}
}

// welcomed begins a connection; what its URL asked for is complete after id.
// mu is held.
func (c *client) welcomed(s stream, id proto.Cursor) {
	c.conn = s
	if c.id == (proto.Cursor{}) {
		c.id = id
	}
	for p := range c.follows {
		c.confirm(p, id.Seq)
	}
}

// confirm makes a subscription that was asked for complete after a sequence;
// mu is held.
func (c *client) confirm(pattern string, after uint64) {
	if f, ok := c.follows[pattern]; ok && f == nil {
		fresh := following(pattern, after)
		c.follows[pattern] = &fresh
	}
}

// unsubscribed ends a subscription for good; mu is held.
func (c *client) unsubscribed(pattern string) {
	if f, ok := c.leaving[pattern]; ok {
		f.mayUntil = c.id.Seq
		c.over = append(c.over, *f)
		delete(c.leaving, pattern)
	}
}

// subscribe asks for one more pattern, if the client is connected and has
// nothing to do with that pattern now. A connection that breaks before the
// answer takes the wish over to the next one.
func (c *client) subscribe(pattern string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, has := c.follows[pattern]
	_, leaves := c.leaving[pattern]
	if c.conn == nil || has || leaves {
		return false
	}
	c.follows[pattern] = nil
	// a dead connection shows when it is read
	_ = c.conn.send(proto.ClientFrame{Type: proto.FrameSubscribe, Channel: pattern})
	return true
}

// unsubscribe gives up a pattern, if the client is connected and follows it.
func (c *client) unsubscribe(pattern string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.follows[pattern]
	if c.conn == nil || f == nil {
		return false
	}
	f.until = c.id.Seq
	delete(c.follows, pattern)
	c.leaving[pattern] = f
	_ = c.conn.send(proto.ClientFrame{Type: proto.FrameUnsubscribe, Channel: pattern}) // as in subscribe
	return true
}

// read holds the client back from reading, or lets it go on.
func (c *client) read(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case yes && c.held != nil:
		close(c.held)
		c.held = nil
		c.online = time.Now()
	case !yes && c.held == nil:
		c.held = make(chan struct{})
	}
}

func (c *client) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// reached reports whether the client is as far as these newest sequences of
// each channel, where it follows them: then nothing that it must have is
// still under way.
func (c *client) reached(newest map[string]uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.follows {
		if f == nil {
			return false
		}
		for channel, seq := range newest {
			if seq > c.id.Seq && f.must(seq, channel) {
				return false
			}
		}
	}
	return true
}

// judge holds what the client got against the ledger. What it met that no
// client should meet is wrong, too.
func (c *client) judge(l *ledger) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	follows := append([]follow{}, c.over...)
	for _, f := range c.follows {
		if f != nil {
			follows = append(follows, *f)
		}
	}
	for _, f := range c.leaving {
		follows = append(follows, *f)
	}
	v := l.judge(c.name, c.got, follows, c.gaps)
	for _, f := range c.faults {
		v.examples = append(v.examples, c.name+": "+f)
	}
	return v
}
