//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// smallScale is everything that `make scale` does, with a handful of connections.
// Its figures say nothing.
func smallScale() scalePlan {
	p := scaleDefaults()
	p.clients, p.gateways, p.heartbeat, p.window, p.broadcasts, p.load = 60, 2, time.Second, 3*time.Second, 2, 200
	p.rest, p.settle = p.rest/100, p.settle/10
	return p
}

// Sixty clients on two gateways get every message once, which the run itself
// counts, and the tables have all figures.
func TestScaleSmall(t *testing.T) {
	text, err := smallScale().run(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text)
	for _, i := range inputs {
		if !strings.Contains(text, "| `"+i.name+"` | "+i.what+" |") {
			t.Errorf("no row for the input %s", i.name)
		}
	}
	for _, size := range []string{"wire", "frame"} {
		if regexp.MustCompile("`"+size+"` .* [23][0-9][0-9] bytes|`"+size+"` .* 4[0-9][0-9] bytes").FindString(text) == "" {
			t.Errorf("got no size between 200 and 500 bytes of a %s", size)
		}
	}
	for _, bad := range []string{"NaN", "Inf", "%!"} {
		if strings.Contains(text, bad) {
			t.Errorf("the tables contain %s", bad)
		}
	}
}

// Whatever the run has started is gone when its time is over.
func TestScaleBudget(t *testing.T) {
	p := smallScale()
	p.window = time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	over := errors.New("over")
	log := writer(func(line string) {
		if strings.Contains(line, "wants") {
			cancel(over)
		}
	})
	_, err := p.run(ctx, log)
	if !errors.Is(err, over) || !strings.Contains(err.Error(), "connections") {
		t.Errorf("got %v, want the cause and the step", err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("children of this process: got %v and %v", tasks, err)
	}
	for _, f := range tasks {
		if b, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(b)) != "" { // else a thread that is gone
			t.Errorf("processes are left: %s", b)
		}
	}
}

type writer func(string)

func (w writer) Write(b []byte) (int, error) { w(string(b)); return len(b), nil }

func TestParseScale(t *testing.T) {
	for _, c := range []struct {
		args, want string // what the error says; empty: none
	}{
		{"", ""},
		{"-n 0", ""},
		{"-n -1", "negative"},
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

// This machine can hold some connections.
func TestMachineAllows(t *testing.T) {
	if n, reason, err := machineAllows(); err != nil || n < 1 {
		t.Errorf("got %d connections for %q and %v, want some", n, reason, err)
	}
}

func TestSource(t *testing.T) {
	for n, want := range map[int][4]byte{0: {127, 1, 0, 1}, 254: {127, 1, 0, 255}, 255: {127, 1, 1, 0}} {
		if got := source(n); got != want {
			t.Errorf("%d: got %v, want %v", n, got, want)
		}
	}
}
