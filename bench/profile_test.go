//go:build linux

package main

import (
	"errors"
	"strings"
	"testing"
)

func TestInSystemCalls(t *testing.T) {
	const head = "File: gateway\nType: cpu\nTime: 2026-11-22 10:00:00 UTC\nDuration: 2.01s, Total samples = 1.52s (75.62%)\n" +
		"Showing nodes accounting for 1.50s, 98.68% of 1.52s total\n      flat  flat%   sum%        cum   cum%\n"
	for _, c := range []struct {
		name, top string
		want      float64
		err       error
	}{
		{"most of it", head + "     1.40s 92.11% 92.11%      1.40s 92.11%  internal/runtime/syscall/linux.Syscall6\n     0.05s  3.29% 95.39%      0.05s  3.29%  runtime.futex\n", 0.9211, nil},
		{"all of it", head + "     1.52s   100%   100%      1.52s   100%  internal/runtime/syscall.Syscall6\n", 1, nil},
		{"none", head + "     0.05s  3.29% 3.29%      0.05s  3.29%  runtime.futex\n", 0, nil},
		{"no samples", "Duration: 1s, Total samples = 0 \nShowing nodes accounting for 0, 0% of 0 total\n", 0, errNoSamples},
		{"no samples, with a unit", "Duration: 1s, Total samples = 0 \nShowing nodes accounting for 0ns, 0% of 0ns total\n", 0, errNoSamples},
	} {
		got, err := inSystemCalls(c.top)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %g and %v, want %g and %v", c.name, got, err, c.want, c.err)
		}
	}
	if _, err := inSystemCalls("no profile"); err == nil || !strings.Contains(err.Error(), "no total") {
		t.Errorf("got %v, want an error that says what is missing", err)
	}
}
