package hub

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

// The trie against a list of patterns, each tried in turn.
func TestPatternsLikeAList(t *testing.T) {
	r := random(t)
	for range 200 {
		var trie patterns
		known := map[string]*subscriptions{}
		for range 120 {
			name := randomName(r, true)
			if r.IntN(3) == 0 { // many children of one node
				name += "." + string(rune('a'+r.IntN(26)))
				if proto.CheckPattern(name) != nil {
					continue
				}
			}
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
		if trie.size != 0 || trie.root.few != nil || trie.root.many != nil {
			t.Fatalf("after removing all: size %d, %d branches", trie.size, len(trie.root.few)+len(trie.root.many))
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

// Long patterns that share nothing, or all but the last token, or branch at
// every token, cost little more than their bytes.
func TestPatternsMemory(t *testing.T) {
	const n = 1000
	for name, pattern := range map[string]func(i int) string{
		"nothing shared":   func(i int) string { return fmt.Sprintf("%04d", i) + strings.Repeat(".*", 118) },
		"all but the last": func(i int) string { return strings.Repeat("*.", 118) + fmt.Sprintf("%04d", i) },
		"branching all over": func(i int) string {
			return strings.Repeat("*.", i%120) + fmt.Sprintf("x%d", i) + strings.Repeat(".*", 119-i%120)
		},
	} {
		t.Run(name, func(t *testing.T) {
			names := make([]string, n)
			for i := range names {
				if names[i] = pattern(i); proto.CheckPattern(names[i]) != nil {
					t.Fatalf("%q is no pattern", names[i])
				}
			}
			var trie patterns
			before := heap()
			for _, name := range names {
				trie.at(name)
			}
			each := (heap() - before) / n
			t.Logf("%d bytes a pattern of %d tokens, its name apart", each, 1+strings.Count(names[0], "."))
			if each > 512 {
				t.Errorf("a pattern costs %d bytes, want at most 512", each)
			}
			for _, name := range names {
				trie.remove(name)
			}
			if trie.size != 0 || trie.root.few != nil || trie.root.many != nil {
				t.Errorf("%d patterns are left", trie.size)
			}
		})
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
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
			t.Fatalf("%q takes in %q: the trie says %d times, proto %t, want %d", pattern, channel, got,
				proto.Match(pattern, channel), want)
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

// get finds the subscriptions of one pattern, or nil.
func (p *patterns) get(pattern string) *subscriptions {
	n := &p.root
	for {
		if n = n.child(first(pattern)); n == nil {
			return nil
		}
		switch shared := sharedTokens(n.path, pattern); {
		case shared < len(n.path):
			return nil
		case shared == len(pattern):
			return n.subs
		default:
			pattern = pattern[shared+1:]
		}
	}
}
