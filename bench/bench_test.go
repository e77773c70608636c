//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

// small is everything that a run does, with a handful of clients, all of which
// read what they get and count each message. Its figures say nothing.
func small() plan {
	p := defaults()
	p.sizes, p.rounds, p.rate, p.deliver, p.every = []int{3, 20}, 1, 4000, 200, true
	p.pingEvery, p.pingRounds, p.profile, p.rest, p.settle = time.Second, 1, time.Second, 0, p.settle/10
	return p
}

// Each candidate delivers every message to every client, in each scenario, and
// the table has all figures.
func TestSmall(t *testing.T) {
	r, err := small().run(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.failures {
		t.Errorf("got %s, want no failure", f)
	}
	table := r.markdown()
	t.Log("\n" + table)
	table, goals, _ := strings.Cut(table, "What Herald is held to")
	if !strings.Contains(goals, "| a ping and its pong, CPU | ≤ 14.0 µs |") {
		t.Errorf("got no goal for a ping in %q", goals)
	}
	for _, want := range []struct {
		row   string
		cells int // with a value, at least, in each line that begins so
	}{
		{"3 clients, one message at a time: CPU", 4},
		{"3 clients, bursts of 5 messages: CPU", 4},
		{"20 clients, one message at a time: CPU", 4},
		{"… against the bare write(2) loop", 4},
		{"… outside the kernel", 4},
		{"… CPU in system calls", 4},
		{"20 clients, bursts of 5 messages: CPU", 4},
		{"… latency, p50 / p99", 4},
		{"an idle client, resident memory", 4},
		{"… heap and stacks in use", 3},
		{"a handshake, CPU", 4},
		{"20 clients lose their connection and come back at once: CPU", 3},
		{"20 clients come back at once and get 20 missed messages", 1},
		{"20 channels of one client each: CPU", 4},
		{"an idle client over TLS, resident memory", 3},
		{"a handshake over TLS, CPU", 3},
		{"a ping and its pong, CPU", 3},
		{"one POST, stored and acknowledged", 1},
		{"a message of an array of 100", 1},
		{"a message of an NDJSON stream", 1},
		{"… in the single binary", 1},
	} {
		found := false
		for line := range strings.Lines(table) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			if !strings.HasPrefix(strings.TrimSpace(cells[0]), want.row) {
				continue
			}
			found = true
			got := 0
			for _, c := range cells[1:] {
				if strings.TrimSpace(c) != "–" {
					got++
				}
			}
			if got < want.cells {
				t.Errorf("%q: got %d values, want at least %d, in %s", want.row, got, want.cells, line)
			}
		}
		if !found {
			t.Errorf("no line begins with %q", want.row)
		}
	}
}
