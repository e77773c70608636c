//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// profiles is how many are made until one has samples: a process that does
// next to nothing may have none.
const profiles = 5

// profiled repeats the load of one message at a time after it was measured, so that
// the profiler's cost is not in that figure, and finds how much of the CPU time was in system
// calls. The rest is the price of everything that is not a write.
func profiled(ctx context.Context, t *trial) error {
	file, url := filepath.Join(t.dir, "cpu.pprof"), fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", t.v.ops, t.profile.Seconds())
	for range profiles {
		if err := t.underLoad(ctx, func() error {
			profile, err := t.v.get(ctx, url)
			if err != nil {
				return fmt.Errorf("%s: profile: %w", t.v.name, err)
			}
			return os.WriteFile(file, []byte(profile), 0o600)
		}); err != nil {
			return err
		}
		top, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", file).Output()
		if err != nil {
			return fmt.Errorf("%s: read the profile: %w", t.v.name, err)
		}
		share, err := inSystemCalls(string(top))
		if err == nil {
			t.record(systemCalls, percent, share)
		}
		if !errors.Is(err, errNoSamples) {
			return err
		}
	}
	return fmt.Errorf("%s: %w", t.v.name, errNoSamples)
}

// underLoad publishes at the offered rate while do runs, and returns when all of
// it is delivered.
func (t *trial) underLoad(ctx context.Context, do func() error) error {
	if _, err := t.clients.call(ctx, "Reset", ""); err != nil {
		return err
	}
	loading, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { // ends with do; received below
		err := do()
		stop()
		done <- err
	}()
	l := load{messages: 1 << 30, perSecond: t.perSecond(), burst: 1}
	sent := 0
	l.channel = func(i int) string { sent = i + 1; return everybody }
	err := t.broker.publish(loading, l)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		err = nil
	}
	if err := errors.Join(<-done, err); err != nil {
		return err
	}
	_, err = t.clients.await(ctx, int64(sent))
	return err
}

// errNoSamples: the profiler never found the process running.
var errNoSamples = errors.New("the profile has no samples")

var (
	// topTotal is in what `go tool pprof -top` says first: "… of 1.52s total".
	topTotal = regexp.MustCompile(`(?m)^Showing nodes accounting for .* of (\S+) total`)
	// topCall is the line of the instruction by which Go enters the kernel, with
	// its share in the second column; futexes have a line of their own.
	topCall = regexp.MustCompile(`(?m)^\s*\S+\s+([\d.]+)%\s.*\bSyscall6$`)
)

// inSystemCalls reads their share, from 0 to 1, from the output of `go tool pprof -top`.
func inSystemCalls(top string) (share float64, err error) {
	total := topTotal.FindStringSubmatch(top)
	switch {
	case total == nil:
		return 0, fmt.Errorf("the profile's summary says no total: %.200s", top)
	case strings.Trim(total[1], "0mnus") == "":
		return 0, errNoSamples
	}
	call := topCall.FindStringSubmatch(top)
	if call == nil {
		return 0, nil
	}
	percent, err := strconv.ParseFloat(call[1], 64)
	return percent / 100, err
}
