//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
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
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
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
		{"-only idle,speed", `no scenario "speed"`},
		{"more", "unexpected argument"},
	} {
		_, _, err := parsePlan(strings.Fields(c.args), t.Output())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want an error that contains %q", c.args, err, c.want)
		}
	}
	p, readme, err := parsePlan([]string{"-sizes", "1000,5,20", "-only", "idle,ping", "-readme", "R"}, t.Output())
	if err != nil || readme != "R" || !slices.Equal(p.sizes, []int{5, 20, 1000}) || !slices.Equal(p.only, []string{"idle", "ping"}) {
		t.Errorf("got %+v, %q and %v, want the sizes in order, both scenarios and the file", p, readme, err)
	}
}
