package gateway

import (
	"strings"
	"sync"
)

// agents are what clients say of their software, each once, so that a session keeps a number. Safe for concurrent use.
type agents struct {
	mu    sync.Mutex
	by    map[string]uint16 // guarded by mu
	names []string          // guarded by mu; by number, less one
}

const (
	// maxAgents bounds them: a public service has some hundreds. Later ones are not named.
	maxAgents = 1000
	// maxAgentBytes bounds one; browsers have up to 200.
	maxAgentBytes = 200
)

// number is that of an agent; 0: it has none.
func (a *agents) number(name string) uint16 {
	if name == "" {
		return 0
	}
	name = name[:min(len(name), maxAgentBytes)]
	a.mu.Lock()
	defer a.mu.Unlock()
	n, known := a.by[name]
	if !known && len(a.names) < maxAgents {
		if a.by == nil {
			a.by = map[string]uint16{}
		}
		name = strings.Clone(name) // not the request's memory
		a.names = append(a.names, strings.ToValidUTF8(name, ""))
		n = uint16(len(a.names))
		a.by[name] = n
	}
	return n
}

func (a *agents) name(n uint16) string {
	if n == 0 {
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.names[n-1]
}
