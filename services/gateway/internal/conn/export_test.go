package conn

// Idle reports whether no goroutine calls the Client.
func (c *Conn) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.handling
}
