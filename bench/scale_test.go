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
	subscriptions := regexp.MustCompile(`NATS had (\d+) subscriptions without the clients and (\d+) with them`).FindStringSubmatch(text)
	if subscriptions == nil || subscriptions[1] != subscriptions[2] || subscriptions[1] == "0" {
		t.Errorf("got %q, want the same number of subscriptions without clients and with them, and some", subscriptions)
	}
	for _, row := range []string{"| 60 connections on 2 gateways |", "| memory of one, idle |", "| memory of all |", "| CPU while all come at once", "| CPU of a second in which all sit there",
		"| CPU of a message that all get", "| CPU of 1,000 messages to one client each |"} {
		if !strings.Contains(text, row) {
			t.Errorf("no row begins with %q", row)
		}
	}
	for _, i := range inputs {
		if !strings.Contains(text, "| `"+i.name+"` | "+i.of+" |") {
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
		if strings.Contains(line, "connections") {
			cancel(over)
		}
	})
	_, err := p.run(ctx, log)
	if !errors.Is(err, over) || !strings.Contains(err.Error(), "all clients are idle") {
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
