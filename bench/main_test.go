//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	// What the processes are made of, so that a change of it makes go test run
	// these tests anew instead of quoting the last result.
	_ "github.com/herald-push/herald/services/gateway"
	_ "github.com/herald-push/herald/services/ingest"
)

// TestMain is also what the run's own processes begin with: they are this
// binary, as roles.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "clients") {
		if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestParsePlan(t *testing.T) {
	for _, c := range []struct {
		args, want string // what the error says; empty: none
	}{
		{"", ""},
		{"-sizes 5,1000,20 -rounds 1 -only idle,ping -readme R", ""},
		{"-sizes 0", "sizes"},
		{"-sizes 10,many", "sizes"},
		{"-sizes 100000000", "open files"},
		{"-rounds 0", "rounds"},
		{"-short -only nine", ""},
		{"-only idle,speed", `no step "speed"`},
		{"more", "unexpected argument"},
		{"scale -n 0", ""},
		{"scale -n -1", "no negative"},
		{"scale -n many", "invalid value"},
		{"scale 90000", "unexpected argument"},
	} {
		_, err := parsePlan(strings.Fields(c.args), t.Output())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want an error that contains %q", c.args, err, c.want)
		}
	}
	p, err := parsePlan([]string{"-sizes", "1000,5,20", "-only", "idle,ping", "-readme", "R"}, t.Output())
	if err != nil || p.readme != "R" || !slices.Equal(p.sizes, []int{5, 20, 1000}) ||
		!slices.Equal(p.only, []string{"idle", "ping"}) {
		t.Errorf("got %+v and %v, want the sizes in order, both scenarios and the file", p, err)
	}
	if p, err = parsePlan([]string{"scale", "-n", "90000", "-readme", "R"}, t.Output()); err != nil ||
		p.clients != 90_000 ||
		p.readme != "R" || p.window < 2*p.heartbeat {
		t.Errorf("got %+v and %v, want 90,000 clients, two heartbeats and the file", p, err)
	}
}

// Tables are written between their marks; without marks the file stays as it is.
func TestPublishText(t *testing.T) {
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
		err := publishText(t.Output(), path, "scale", "new\n\n")
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: got %v, want an error that contains %q", c.name, err, c.fault)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != c.after {
			t.Errorf("%s: got %q and %v, want %q", c.name, got, err, c.after)
		}
	}
}
