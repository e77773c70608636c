//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is time that a process spent, in seconds: its own code, and the
// kernel's on its behalf.
type cpu struct{ user, sys float64 }

func (c cpu) sum() float64         { return c.user + c.sys }
func (c cpu) plus(o cpu) cpu       { return cpu{c.user + o.user, c.sys + o.sys} }
func (c cpu) minus(before cpu) cpu { return cpu{c.user - before.user, c.sys - before.sys} }
func (c cpu) per(n float64) cpu    { return cpu{c.user / n, c.sys / n} }

// tick is the unit of /proc: USER_HZ, 100 on every Linux that Go runs on.
const tick = 0.01

// cpuOf reads the time that a running process has spent so far. The sum is the
// scheduler's, to the nanosecond. How much of it was user time the kernel tells in
// ticks of 10 ms, and on most machines estimates by who was running at its timer's
// interrupts: that share is rough.
func cpuOf(pid int) (cpu, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return cpu{}, fmt.Errorf("cpu time of a process: %w", err)
	}
	// After the name, which may contain anything, in parentheses.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return cpu{}, fmt.Errorf("cpu time of a process: %q", b)
	}
	// The clock of a process: clock_getcpuclockid(3), of the kind CPUCLOCK_SCHED.
	var sum unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|2, &sum); err != nil {
		return cpu{}, fmt.Errorf("cpu time of a process: its clock: %w", err)
	}
	return cpu{user * tick, float64(sum.Nano())/1e9 - user*tick}, nil
}

// rssOf is the resident memory of a process in bytes.
func rssOf(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of a process: %w", err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(b))[1], 64)
	return pages * float64(os.Getpagesize()), err
}

// machineBusy is the CPU time of everything that runs on this machine, in seconds.
func machineBusy() float64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var busy float64
	for i, f := range strings.Fields(line)[1:] {
		if v, err := strconv.ParseFloat(f, 64); err == nil && i < 8 && i != 3 && i != 4 { // not idle, not waiting for a disk
			busy += v
		}
	}
	return busy * tick
}

// machine describes what the figures were measured on.
func machine() string {
	model := "unknown processor"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer func() { _ = f.Close() }()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%s, Linux %s", model, strings.TrimSpace(string(kernel)))
}

// median of at least one value; of an even number the lower one of the two.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[(len(s)-1)/2]
}

// histogram counts latencies in 16 steps per octave, so a percentile is right
// to some 4 %. Histograms of several processes add up.
type histogram [16 * 40]int64

func (h *histogram) add(d time.Duration) {
	us := float64(max(0, d) / time.Microsecond)
	h[min(len(h)-1, int(16*math.Log2(us+1)))]++
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o {
		h[i] += n
	}
}

// percentiles are the median, 95 % and 99 %.
func (h *histogram) percentiles() []float64 {
	return []float64{h.percentile(0.50), h.percentile(0.95), h.percentile(0.99)}
}

// percentile is the upper edge of the step that holds it, in seconds; p is
// between 0 and 1. Of nothing it is 0.
func (h *histogram) percentile(p float64) float64 {
	var total, seen int64
	for _, n := range h {
		total += n
	}
	for i, n := range h {
		if seen += n; n > 0 && float64(seen) >= p*float64(total) {
			return (math.Exp2(float64(i+1)/16) - 1) / 1e6
		}
	}
	return 0
}
