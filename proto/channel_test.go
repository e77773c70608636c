package proto_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

// names.json is shared with web/test: the page tells its user the same.
func TestNames(t *testing.T) {
	var names []struct {
		Name    string `json:"name"`
		Channel bool   `json:"channel"`
		Pattern bool   `json:"pattern"`
	}
	if err := json.Unmarshal([]byte(readFile(t, "testdata/names.json")), &names); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := proto.CheckChannel(n.Name); (err == nil) != n.Channel {
			t.Errorf("CheckChannel(%q): got %v, want valid %v", n.Name, err, n.Channel)
		}
		if err := proto.CheckPattern(n.Name); (err == nil) != n.Pattern {
			t.Errorf("CheckPattern(%q): got %v, want valid %v", n.Name, err, n.Pattern)
		}
	}
	if err := proto.CheckChannel(strings.Repeat("a", proto.MaxChannelBytes)); err != nil {
		t.Errorf("a name of 255 bytes: %v", err)
	}
	if err := proto.CheckChannel(strings.Repeat("a", proto.MaxChannelBytes+1)); !errors.Is(err, proto.ErrChannel) {
		t.Errorf("a name of 256 bytes: got %v, want ErrChannel", err)
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, channel string
		want             bool
	}{
		{"orders.eu", "orders.eu", true},
		{"orders.eu", "orders.us", false},
		{"orders.eu", "orders", false},
		{"orders", "orders.eu", false},
		{"orders.*", "orders.eu", true},
		{"orders.*", "orders.eu.paid", false},
		{"orders.*", "orders", false},
		{"orders.>", "orders.eu", true},
		{"orders.>", "orders.eu.paid", true},
		{"orders.>", "orders", false},
		{"*.paid", "orders.paid", true},
		{">", "anything.at.all", true},
		// Permissions: does the pattern cover another pattern?
		{"a.>", "a.*", true},
		{"a.*", "a.>", false},
		{"a.>", "a.>", true},
		{"*", ">", false},
		{"*.>", ">", false},
		{">", "*", true},
		{"a.b", "a.*", false},
	} {
		if got := proto.Match(c.pattern, c.channel); got != c.want {
			t.Errorf("Match(%q, %q): got %v, want %v", c.pattern, c.channel, got, c.want)
		}
	}
	if !proto.MatchAny([]string{"a", "b.*"}, "b.c") || proto.MatchAny([]string{"a", "b.*"}, "c") ||
		proto.MatchAny(nil, "c") {
		t.Error("MatchAny is not Match of any")
	}
}

// Permission means: every channel that the second takes in, the first takes in
// too. All pairs of patterns up to three tokens are held to that, over all
// channels up to four tokens, with "x" for any token that no pattern names.
func TestMatchCoversPatterns(t *testing.T) {
	patterns, channels := sentences([]string{"a", "b", "*"}, 3), sentences([]string{"a", "b", "x"}, 4)
	patterns = append(patterns, ">")
	for _, p := range slices.Clone(patterns) {
		if strings.Count(p, ".") < 2 && p != ">" {
			patterns = append(patterns, p+".>")
		}
	}
	for _, p := range patterns {
		for _, q := range patterns {
			covered := !slices.ContainsFunc(channels, func(c string) bool {
				return naiveMatch(q, c) && !naiveMatch(p, c)
			})
			if got := proto.Match(p, q); got != covered {
				t.Fatalf("Match(%q, %q): got %v, want %v", p, q, got, covered)
			}
		}
	}
}

// sentences are all names of one to depth of these tokens.
func sentences(tokens []string, depth int) []string {
	all, last := slices.Clone(tokens), tokens
	for range depth - 1 {
		var longer []string
		for _, s := range last {
			for _, token := range tokens {
				longer = append(longer, s+"."+token)
			}
		}
		all, last = append(all, longer...), longer
	}
	return all
}

// naiveMatch is the rule as NATS words it, for a literal channel.
func naiveMatch(pattern, channel string) bool {
	var match func(p, c []string) bool
	match = func(p, c []string) bool {
		switch {
		case len(p) == 0 || len(c) == 0:
			return len(p) == len(c)
		case p[0] == ">":
			return true
		case p[0] == "*" || p[0] == c[0]:
			return match(p[1:], c[1:])
		}
		return false
	}
	return match(strings.Split(pattern, "."), strings.Split(channel, "."))
}

// naiveValid is the definition in PROTOCOL.md, word by word.
func naiveValid(s string, wildcards bool) bool {
	if len(s) < 1 || len(s) > 255 {
		return false
	}
	tokens := strings.Split(s, ".")
	for i, token := range tokens {
		if wildcards && (token == "*" || token == ">" && i == len(tokens)-1) {
			continue
		}
		if token == "" || strings.ContainsFunc(token, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune("\"'`\\*>", r)
		}) {
			return false
		}
	}
	return true
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"broadcast", "orders.eu", "orders.*", "orders.>", "a..b", ".", "*a", ">.a", "ö", "a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		channel, pattern := proto.CheckChannel(s), proto.CheckPattern(s)
		if (channel == nil) != naiveValid(s, false) || (pattern == nil) != naiveValid(s, true) {
			t.Fatalf("%q: CheckChannel %v, CheckPattern %v", s, channel, pattern)
		}
		if pattern == nil && proto.IsPattern(s) != (channel != nil) {
			t.Fatalf("%q: IsPattern %v, CheckChannel %v", s, proto.IsPattern(s), channel)
		}
		for _, err := range []error{channel, pattern} {
			if err != nil && !errors.Is(err, proto.ErrChannel) {
				t.Fatalf("%q: %v is not ErrChannel", s, err)
			}
		}
		if channel != nil {
			return
		}
		if b, err := json.Marshal(s); err != nil || !json.Valid([]byte(`"`+s+`"`)) {
			t.Fatalf("%q needs escaping in JSON: %s, %v", s, b, err)
		}
		for _, subject := range []string{proto.SubjectStored + s, proto.SubjectLiveStored + s} {
			if back, ok := proto.ChannelOf(subject); !ok || back != s {
				t.Fatalf("ChannelOf(%q): got %q, %v", subject, back, ok)
			}
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("orders.*", "orders.eu")
	f.Add("orders.>", "orders.eu.paid")
	f.Add(">", "a")
	f.Fuzz(func(t *testing.T, pattern, channel string) {
		if proto.CheckPattern(pattern) != nil || proto.CheckChannel(channel) != nil {
			return
		}
		if got, want := proto.Match(pattern, channel), naiveMatch(pattern, channel); got != want {
			t.Fatalf("Match(%q, %q): got %v, want %v", pattern, channel, got, want)
		}
		if !proto.Match(pattern, pattern) {
			t.Fatalf("%q does not cover itself", pattern)
		}
	})
}

func TestChannelOfForeignSubject(t *testing.T) {
	for _, s := range []string{"", "herald", "herald.other.a", "$JS.API.INFO"} {
		if got, ok := proto.ChannelOf(s); ok {
			t.Errorf("ChannelOf(%q): got %q, want none", s, got)
		}
	}
}
