//go:build !linux

package conn

// watched: there are no pollers.
func (s *Set) watched() int { return 0 }
