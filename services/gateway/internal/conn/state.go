package conn

// State is how much a connection has been sent.
type State struct {
	Queued   int    // bytes that wait until the socket has room for them
	Bytes    uint64 // that were written to the socket
	Messages uint64 // of PushMessages and SendWait, those that were dropped included
}

// State reads all of it at one moment.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return State{Queued: c.queued, Bytes: c.sent, Messages: c.messages}
}

// Protocol is the name of the connection's format.
func (c *Conn) Protocol() string { return c.format.Name }

// setQueued sets how many bytes are queued.
func (c *Conn) setQueued(n int) {
	switch was := c.queued; {
	case n == was:
		return
	case was == 0:
		c.set.behind.Add(1)
	case n == 0:
		c.set.behind.Add(-1)
	}
	c.set.queued.Add(int64(n - c.queued))
	c.queued = n
}

// Fate is what became of what was pushed.
type Fate uint8

// Fates.
const (
	Written Fate = iota // it was written to the socket
	Queued              // it waits, or a part of it
	Dropped             // the connection is closing, perhaps because the queue was full
)
