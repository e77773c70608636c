package conn

// watched is how many connections the pollers wait for.
func (s *Set) watched() (n int) {
	for _, p := range s.pollers {
		p.mu.Lock()
		n += len(p.conns)
		p.mu.Unlock()
	}
	return n
}
