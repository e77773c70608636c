package conn

import (
	"time"

	"github.com/herald-push/herald/proto"
)

// slack is by how much one look at the wheel may come too early or too late.
func (s *Set) slack() time.Duration { return s.cfg.Tick / 2 }

// mutedBeats is after how many heartbeat intervals in which nothing came from a client
// it is sent a heartbeat although messages go out to it all the time: the kernel
// accepts those, and so does any proxy, long after the client has vanished.
const mutedBeats = 4

// beat is called once per round of the wheel. It sends a heartbeat to a connection that
// will have been silent in both directions for the interval by the next call, or from
// which nothing has come for mutedBeats, or every interval if the Format is Steady; and
// closes one that has sent nothing for HeartbeatWait after a heartbeat. Nothing comes in
// over a response: there only what goes out counts.
func (c *Conn) beat(now int64, round time.Duration) {
	heartbeat, slack := c.set.cfg.Heartbeat, c.set.slack()
	c.mu.Lock()
	in, out := c.lastIn.Load(), c.lastOut
	c.expireWithin(round)
	c.mu.Unlock()
	since := func(t int64) time.Duration { return time.Duration(now - t) }
	last := out
	if !c.oneWay {
		last = max(in, out)
	}
	switch {
	case c.pinged != 0 && in < c.pinged && !c.oneWay:
		if c.notReading.Load() {
			c.pinged = now // the interval begins when it is read from again
		} else if since(c.pinged) >= c.set.cfg.HeartbeatWait-slack {
			c.giveUp()
		}
	case since(last)+round >= heartbeat+slack, !c.oneWay && since(in) >= mutedBeats*heartbeat,
		c.format.Steady && since(c.pinged)+round >= heartbeat+slack:
		c.pinged = now
		c.Push(c.format.Heartbeat)
	case !c.format.Steady: // which needs to know when the last one was
		c.pinged = 0
	}
}

// giveUp closes a connection whose client is silent. If its socket has no room for the
// goodbye, the client does not read either, and is not waited for.
func (c *Conn) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(proto.CloseHeartbeat)
	if c.full && c.polled { // full says nothing of a blocking socket: a goroutine is writing
		c.kill()
	}
}

// Expire closes the connection with CloseTokenExpired at that time. The newest call
// counts. The wheel looks after it, so that a timer exists only shortly before.
func (c *Conn) Expire(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expires = at.UnixMilli() + 1 // rounded up; nanoseconds would end in 2262
	c.expireWithin(c.set.round())
}

// expireWithin sets a timer if the connection expires before the next look at it.
func (c *Conn) expireWithin(d time.Duration) {
	if c.expires == 0 || c.phase >= closeQueued {
		return
	}
	if left := time.Until(time.UnixMilli(c.expires)); left <= d+c.set.slack() {
		time.AfterFunc(left, c.expire)
	}
}

func (c *Conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().UnixMilli() >= c.expires {
		c.close(proto.CloseTokenExpired)
	}
}
