package hub

import (
	"slices"
	"testing"

	"github.com/herald-push/herald/proto"
)

// The trie against a list of patterns, each tried in turn.
func TestPatternsLikeAList(t *testing.T) {
	r := random(t)
	for range 200 {
		var trie patterns
		known := map[string]*subscriptions{}
		for range 60 {
			name := randomName(r, true)
			switch {
			case r.IntN(3) == 0:
				trie.remove(name)
				delete(known, name)
			default:
				known[name] = trie.at(name)
			}
			if trie.size != len(known) {
				t.Fatalf("size: got %d, want %d", trie.size, len(known))
			}
			if got := trie.get(name); got != known[name] {
				t.Fatalf("get %q: got %p, want %p", name, got, known[name])
			}
			compareMatches(t, &trie, known, randomName(r, false))
		}
		for name := range known {
			trie.remove(name)
		}
		if trie.size != 0 || len(trie.root.next) != 0 {
			t.Fatalf("after removing all: size %d, %d branches", trie.size, len(trie.root.next))
		}
	}
}

func compareMatches(t *testing.T, trie *patterns, known map[string]*subscriptions, channel string) {
	t.Helper()
	name := func(s *subscriptions) string {
		for n, k := range known {
			if k == s {
				return n
			}
		}
		return "unknown"
	}
	var got, want []string
	trie.match(channel, func(s *subscriptions) { got = append(got, name(s)) })
	for n := range known {
		if matches(n, channel) {
			want = append(want, n)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%q among %d patterns: got %q, want %q", channel, len(known), got, want)
	}
}

// The trie, proto.Match and the plain reading agree on every name.
func FuzzPatterns(f *testing.F) {
	f.Add("orders.*", "orders.eu")
	f.Add("orders.>", "orders")
	f.Add(">", "a.b.c")
	f.Add("*.*", "a.b")
	f.Add("a.*.>", "a.b")
	f.Fuzz(func(t *testing.T, pattern, channel string) {
		if proto.CheckPattern(pattern) != nil || proto.CheckChannel(channel) != nil {
			return
		}
		var trie patterns
		subs := trie.at(pattern)
		trie.at("x." + channel)
		got := 0
		trie.match(channel, func(s *subscriptions) {
			if s == subs {
				got++
			}
		})
		want := 0
		if matches(pattern, channel) {
			want = 1
		}
		if got != want || proto.Match(pattern, channel) != (want == 1) {
			t.Fatalf("%q takes in %q: the trie says %d times, proto %t, want %d", pattern, channel, got, proto.Match(pattern, channel), want)
		}
		trie.remove(pattern)
		if trie.get(pattern) != nil {
			t.Fatalf("%q is still there", pattern)
		}
		if trie.get("x."+channel) == nil && pattern != "x."+channel {
			t.Fatalf("removing %q took %q along", pattern, "x."+channel)
		}
	})
}
