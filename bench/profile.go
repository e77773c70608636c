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
	"time"
)

// profiles is how many are taken until one has samples: a process that does
// next to nothing may have none.
const profiles = 5

// profiled repeats the load of one message at a time, after it was measured, so that
// the profiler is not on the bill, and finds how much of the CPU time was in system
// calls. What is not is the price of everything that is not a write.
func (b *bench) profiled(ctx context.Context, v *server, clients *crowd) error {
	file := filepath.Join(b.dir, "cpu.pprof")
	for range profiles {
		if err := b.underLoad(ctx, clients, func() error {
			profile, err := v.read(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%.0f", b.profile.Seconds()))
			if err != nil {
				return fmt.Errorf("%s: profile: %w", v.name, err)
			}
			return os.WriteFile(file, []byte(profile), 0o600)
		}); err != nil {
			return err
		}
		top, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", file).Output()
		if err != nil {
			return fmt.Errorf("%s: read the profile: %w", v.name, err)
		}
		share, err := inSystemCalls(string(top))
		if errors.Is(err, errNoSamples) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		b.record(v, systemCalls, percent, share)
		fmt.Fprintf(b.log, "  %-10s %.1f %% of it in system calls\n", v.name, 100*share)
		return nil
	}
	return fmt.Errorf("%s: %w", v.name, errNoSamples)
}

// underLoad publishes at the offered rate while do runs, and returns when all of
// it is delivered.
func (b *bench) underLoad(ctx context.Context, clients *crowd, do func() error) error {
	if _, err := clients.obey(order{Do: "reset"}); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- do() }() // it is waited for below
	l := load{messages: 1, perSecond: b.pace(clients.n), burst: 1, channel: func(int) string { return everybody }}
	beat := time.NewTicker(time.Duration(float64(time.Second) / l.perSecond))
	defer beat.Stop()
	var messages int64
	var err error
	for {
		select {
		case failed := <-done:
			if err = errors.Join(err, failed); err != nil {
				return err
			}
			_, err = clients.await(ctx, messages)
			return err
		case <-beat.C:
			if err == nil {
				err = b.broker.publish(ctx, l)
				messages++
			}
		}
	}
}

// errNoSamples: the process was never seen running.
var errNoSamples = errors.New("the profile has no samples")

var (
	// topTotal is in what `go tool pprof -top` says first: "… of 1.52s total".
	topTotal = regexp.MustCompile(`(?m)^Showing nodes accounting for .* of (\S+) total`)
	// topCall is the line of the instruction by which Go enters the kernel, with
	// its share in the second column; futexes have their own and are not among it.
	topCall = regexp.MustCompile(`(?m)^\s*\S+\s+([\d.]+)%\s.*\bSyscall6$`)
)

// inSystemCalls reads the share of them, from 0 to 1, from the output of
// `go tool pprof -top`.
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
