//go:build linux

package main

import (
	"strings"
	"testing"
)

// Each candidate delivers every message to every client, in each scenario, and
// the table has all figures; six of one row, and a seventh where there is Node.
func TestShort(t *testing.T) {
	table, err := short().run(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table)
	if strings.Contains(table, "Not measured") {
		t.Error("got a failure, want none")
	}
	table, goals, _ := strings.Cut(table, "What Herald is held to")
	if !strings.Contains(goals, "| a ping and its pong, CPU | ≤ 14.0 µs |") {
		t.Errorf("got no goal for a ping in %q", goals)
	}
	for _, want := range []struct {
		row   string
		cells int // with a value, at least, in each line that begins so
	}{
		{"3 clients, one message at a time: CPU", 6},
		{"3 clients, bursts of 5 messages: CPU", 6},
		{"20 clients, one message at a time: CPU", 6},
		{"… outside the kernel", 6},
		{"20 clients, bursts of 5 messages: CPU", 6},
		{"an idle client, resident memory", 6},
		{"… heap and stacks in use", 3},
		{"a handshake, CPU", 6},
		{"20 clients lose their connection and come back at once: CPU", 3},
		{"20 clients come back at once and get 20 missed messages", 1},
		{"an idle client over TLS, resident memory", 3},
		{"a handshake over TLS, CPU", 3},
		{"a ping and its pong, CPU", 3},
		{perUser, 2},
		{perUserArrays, 2},
		{perUserSynced, 1},
		{nineEach, 2},
		{"… latency, p50 / p95 / p99", 1},
		{unwanted, 1},
		{singlePosts, 1},
		{singleSynced, 1},
		{storedPerSecond, 1},
		{arrays, 1},
		{ndjson, 1},
		{singleBinary, 1},
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
