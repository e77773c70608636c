package hub

import "strings"

// patterns finds the subscriptions of every pattern that takes in a channel,
// by a trie of tokens: the cost grows with the channel's tokens, not with the
// number of patterns.
type patterns struct {
	root node
	size int
}

type node struct {
	next map[string]*node // by token; "*" and ">" are tokens like others
	subs *subscriptions   // nil where no pattern ends
}

// at finds or makes the subscriptions of one pattern.
func (p *patterns) at(pattern string) *subscriptions {
	n := &p.root
	for token := range strings.SplitSeq(pattern, ".") {
		child := n.next[token]
		if child == nil {
			child = &node{}
			if n.next == nil {
				n.next = map[string]*node{}
			}
			n.next[token] = child
		}
		n = child
	}
	if n.subs == nil {
		n.subs = &subscriptions{name: pattern}
		p.size++
	}
	return n.subs
}

// get finds the subscriptions of one pattern, or nil.
func (p *patterns) get(pattern string) *subscriptions {
	n := &p.root
	for token := range strings.SplitSeq(pattern, ".") {
		if n = n.next[token]; n == nil {
			return nil
		}
	}
	return n.subs
}

// remove forgets a pattern, and the branches that led only to it.
func (p *patterns) remove(pattern string) {
	if p.root.remove(strings.Split(pattern, ".")) {
		p.size--
	}
}

func (n *node) remove(tokens []string) (removed bool) {
	if len(tokens) == 0 {
		removed = n.subs != nil
		n.subs = nil
		return removed
	}
	child := n.next[tokens[0]]
	if child == nil {
		return false
	}
	removed = child.remove(tokens[1:])
	if child.subs == nil && len(child.next) == 0 {
		delete(n.next, tokens[0])
	}
	return removed
}

// match calls each for the subscriptions of every pattern that takes in channel.
func (p *patterns) match(channel string, each func(*subscriptions)) {
	if p.size > 0 {
		p.root.match(channel, each)
	}
}

func (n *node) match(rest string, each func(*subscriptions)) {
	if n.next == nil {
		return
	}
	if c := n.next[">"]; c != nil && c.subs != nil {
		each(c.subs)
	}
	token, rest, more := strings.Cut(rest, ".")
	for _, t := range [2]string{token, "*"} {
		c := n.next[t]
		switch {
		case c == nil:
		case more:
			c.match(rest, each)
		case c.subs != nil:
			each(c.subs)
		}
	}
}
