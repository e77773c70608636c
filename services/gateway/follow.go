package gateway

import (
	"slices"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
)

// follow is one live subscription.
type follow struct {
	name string // a channel or pattern
	// after is the sequence after which the client gets or has got every message of the
	// name: by this subscription, or by the replay before it.
	after uint64
}

func (c *session) follow(name string, after uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range c.followed {
		if f.name == name {
			c.followed[i].after = min(f.after, after)
			return
		}
	}
	c.followed = append(c.followed, follow{name, after})
}

// names are the channels and patterns that the client follows.
func (c *session) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, len(c.followed))
	for i, f := range c.followed {
		names[i] = f.name
	}
	return names
}

// subscriptions is how many names the client follows.
func (c *session) subscriptions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.followed)
}

func (c *session) follows(name string) bool { return c.hasAfter(name) != hub.Now }

// hasAfter returns follow.after of a name; hub.Now if the client does not follow it.
func (c *session) hasAfter(name string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.followed {
		if f.name == name {
			return f.after
		}
	}
	return hub.Now
}

// has reports whether the client gets or has got this message through a subscription
// that is live, so that a replay must not push it again.
func (c *session) has(channel string, seq uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.followed, func(f follow) bool { return seq > f.after && proto.Match(f.name, channel) })
}

// drop removes a name from what the client follows, and reports whether it was there.
// The shard has to be told, too.
func (c *session) drop(name string) bool {
	c.mu.Lock()
	i := slices.IndexFunc(c.followed, func(f follow) bool { return f.name == name })
	if i < 0 {
		c.mu.Unlock()
		return false
	}
	c.followed = slices.Delete(c.followed, i, i+1)
	c.held -= int32(weight(name))
	c.mu.Unlock()
	c.s.shares.release(c.conn.Remote(), weight(name))
	return true
}
