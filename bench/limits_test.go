//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWithin(t *testing.T) {
	limits := []limit{{"memory", 5000}, {"tracking", 300}}
	for _, c := range []struct {
		name      string
		n, want   int
		wantCause string
	}{
		{"all of them", 200, 200, ""},
		{"just as many as allowed", 300, 300, ""},
		{"too many for one limit", 1000, 300, "tracking"},
		{"too many for both", 100_000, 300, "tracking"},
		{"as many as there may be", 0, 300, "tracking"},
	} {
		if got, cause := within(c.n, limits); got != c.want || cause != c.wantCause {
			t.Errorf("%s: got %d for %q, want %d for %q", c.name, got, cause, c.want, c.wantCause)
		}
	}
	if got, cause := within(10, []limit{{"memory", -5}}); got != 0 || cause != "memory" {
		t.Errorf("nothing left: got %d for %q", got, cause)
	}
}

// This machine can hold some connections, and the limit of open files counts
// only where the number of gateways is given.
func TestLimits(t *testing.T) {
	free, err := limits(0)
	if err != nil {
		t.Fatal(err)
	}
	fixed, err := limits(3)
	if err != nil {
		t.Fatal(err)
	}
	if len(fixed) != len(free)+1 {
		t.Errorf("got %v with the number of gateways and %v without, want one more", fixed, free)
	}
	if n, cause := within(0, free); n < 1 {
		t.Errorf("no connection can be held: %s", cause)
	}
	if n, cause := within(0, []limit{fixed[1]}); n != 3*socketsOfAProcess() || !strings.Contains(cause, "in each of 3 gateways") {
		t.Errorf("three gateways: got %d for %q", n, cause)
	}
}

func TestSource(t *testing.T) {
	for n, want := range map[int][4]byte{0: {127, 1, 0, 1}, 254: {127, 1, 0, 255}, 255: {127, 1, 1, 0}, sources - 1: {127, 255, 255, 254}} {
		if got := source(n); got != want {
			t.Errorf("%d: got %v, want %v", n, got, want)
		}
	}
}

func TestParseScale(t *testing.T) {
	for _, c := range []struct {
		args, want string // what the error says; empty: none
	}{
		{"", ""},
		{"-n 0 -gateways 3 -budget 1m", ""},
		{"-n -1", "negative"},
		{"-gateways -1", "at least two"},
		{"-gateways 1", "at least two"},
		{"-n many", "invalid value"},
		{"90000", "unexpected argument"},
	} {
		_, _, err := parseScale(strings.Fields(c.args), t.Output())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want an error that contains %q", c.args, err, c.want)
		}
	}
	p, readme, err := parseScale([]string{"-n", "90000", "-readme", "R"}, t.Output())
	if err != nil || p.clients != 90_000 || readme != "R" || p.window < 2*25e9 {
		t.Errorf("got %+v, %q and %v, want 90,000 clients, two heartbeats and the file", p, readme, err)
	}
}

func TestWriteBetween(t *testing.T) {
	const begin, end = "<!-- scale:begin -->", "<!-- scale:end -->"
	path := filepath.Join(t.TempDir(), "README.md")
	for _, c := range []struct{ name, before, after, fault string }{
		{"empty", "a\n" + begin + "\n" + end + "\nb\n", "a\n" + begin + "\nnew\n" + end + "\nb\n", ""},
		{"full", "a\n" + begin + "\nold\n" + end + "\nb\n", "a\n" + begin + "\nnew\n" + end + "\nb\n", ""},
		{"no marks", "a\nb\n", "a\nb\n", "has no marks"},
		{"no end", "a\n" + begin + "\nb\n", "a\n" + begin + "\nb\n", "has no marks"},
	} {
		if err := os.WriteFile(path, []byte(c.before), 0o600); err != nil {
			t.Fatal(err)
		}
		err := writeBetween(path, "scale", "new\n\n")
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: got %v, want an error that contains %q", c.name, err, c.fault)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.after {
			t.Errorf("%s: got %q and %v, want %q", c.name, got, err, c.after)
		}
	}
}
