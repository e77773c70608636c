package hub

import (
	"slices"
	"strings"
)

// patterns finds the subscriptions of every pattern that matches a channel,
// by a trie of tokens: the cost grows with the channel's tokens, not with the
// number of patterns. Tokens that nothing branches between share a node, so a
// pattern costs at most two nodes, however many tokens it has.
type patterns struct {
	root node
	size int
}

type node struct {
	path string           // tokens from the parent to here; "*" and ">" are tokens like others
	few  []*node          // children, each with another first token
	many map[string]*node // children by their first token, in place of few
	subs *subscriptions   // nil where no pattern ends
}

// manyChildren is from how many on children are found by a map.
const manyChildren = 8

// at finds or makes the subscriptions of one pattern.
func (p *patterns) at(pattern string) *subscriptions {
	n := p.root.at(pattern)
	if n.subs == nil {
		n.subs = &subscriptions{name: pattern}
		p.size++
	}
	return n.subs
}

// remove forgets a pattern, and the nodes that led only to it.
func (p *patterns) remove(pattern string) {
	if p.root.remove(pattern) {
		p.size--
	}
}

// match calls each for the subscriptions of every pattern that matches channel.
func (p *patterns) match(channel string, each func(*subscriptions)) {
	if p.size > 0 {
		p.root.match(channel, each)
	}
}

// first is the first token.
func first(tokens string) string {
	token, _, _ := strings.Cut(tokens, ".")
	return token
}

// sharedTokens is how many bytes the whole tokens have that a and b begin with.
func sharedTokens(a, b string) int {
	shared := 0
	for i := 0; ; i++ {
		endA, endB := i == len(a), i == len(b)
		if (endA || a[i] == '.') && (endB || b[i] == '.') {
			shared = i
		}
		if endA || endB || a[i] != b[i] {
			return shared
		}
	}
}

func (n *node) child(token string) *node {
	if n.many != nil {
		return n.many[token]
	}
	for _, c := range n.few {
		if len(c.path) >= len(token) && c.path[:len(token)] == token &&
			(len(c.path) == len(token) || c.path[len(token)] == '.') {
			return c
		}
	}
	return nil
}

// put adds a child, or replaces the one with the same first token.
func (n *node) put(c *node) {
	token := first(c.path)
	if n.many != nil {
		n.many[token] = c
		return
	}
	if i := n.index(token); i >= 0 {
		n.few[i] = c
		return
	}
	if n.few = append(n.few, c); len(n.few) < manyChildren {
		return
	}
	n.many = make(map[string]*node, len(n.few))
	for _, c := range n.few {
		n.many[first(c.path)] = c
	}
	n.few = nil
}

func (n *node) index(token string) int {
	return slices.IndexFunc(n.few, func(c *node) bool { return first(c.path) == token })
}

func (n *node) drop(token string) {
	if n.many == nil {
		if n.few = slices.DeleteFunc(n.few, func(c *node) bool { return first(c.path) == token }); len(n.few) == 0 {
			n.few = nil
		}
		return
	}
	delete(n.many, token)
	if len(n.many) >= manyChildren/2 {
		return
	}
	for _, c := range n.many { // a map keeps the size that it once had
		n.few = append(n.few, c)
	}
	n.many = nil
}

// at finds or makes the node where tokens end.
func (n *node) at(tokens string) *node {
	c := n.child(first(tokens))
	if c == nil {
		c = &node{path: tokens}
		n.put(c)
		return c
	}
	shared := sharedTokens(c.path, tokens)
	if shared < len(c.path) { // tokens branch off inside the path
		upper := &node{path: c.path[:shared], few: []*node{c}}
		n.put(upper) // while c has the first token by which it is found
		c.path = c.path[shared+1:]
		c = upper
	}
	if shared == len(tokens) {
		return c
	}
	return c.at(tokens[shared+1:])
}

func (n *node) remove(tokens string) (removed bool) {
	c := n.child(first(tokens))
	if c == nil {
		return false
	}
	shared := sharedTokens(c.path, tokens)
	switch {
	case shared < len(c.path):
		return false
	case shared == len(tokens):
		removed = c.subs != nil
		c.subs = nil
	default:
		removed = c.remove(tokens[shared+1:])
	}
	if c.subs != nil || c.many != nil {
		return removed
	}
	switch len(c.few) {
	case 0:
		n.drop(first(c.path))
	case 1: // nothing branches here any more
		only := c.few[0]
		only.path = c.path + "." + only.path
		n.put(only)
	}
	return removed
}

func (n *node) match(channel string, each func(*subscriptions)) {
	for _, token := range [...]string{first(channel), "*", ">"} {
		c := n.child(token)
		if c == nil {
			continue
		}
		rest, ok := pass(c.path, channel)
		switch {
		case !ok:
		case rest != "":
			c.match(rest, each)
		case c.subs != nil:
			each(c.subs)
		}
	}
}

// pass goes along a path with a channel, and returns the tokens that remain;
// ok is false where the channel differs from the path, or ends before the path does.
func pass(path, channel string) (rest string, ok bool) {
	for path != "" {
		if channel == "" {
			return "", false
		}
		var want, token string
		want, path, _ = strings.Cut(path, ".")
		token, channel, _ = strings.Cut(channel, ".")
		switch want {
		case ">":
			return "", true
		case "*", token:
		default:
			return "", false
		}
	}
	return channel, true
}
