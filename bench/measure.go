//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is time that a process spent, in seconds: all of it, and that of its own code, without the
// kernel's on its behalf.
type cpu struct{ sum, user float64 }

// tick is the unit of /proc: USER_HZ, 100 on every Linux that Go runs on.
const tick = 0.01

// cpuOf reads the time that a running process has spent so far. The sum is the
// scheduler's, to the nanosecond. How much of it was user time the kernel tells in
// ticks of 10 ms, and on most machines estimates by who was running at its timer's
// interrupts: that share is rough.
func cpuOf(pid int) (cpu, error) {
	b, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The clock of a process: clock_getcpuclockid(3), of the kind CPUCLOCK_SCHED.
	var sum unix.Timespec
	err2 := unix.ClockGettime(int32(^pid)<<3|2, &sum)
	if err := errors.Join(err1, err2); err != nil {
		return cpu{}, fmt.Errorf("cpu time of a process: %w", err)
	}
	// Fields are counted after the name, which may contain anything, in parentheses.
	user, err := strconv.ParseFloat(strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))[11], 64)
	return cpu{float64(sum.Nano()) / 1e9, user * tick}, err
}

// rssOf is the resident memory of a process in bytes.
func rssOf(pid int) (float64, error) {
	pages, err := field(fmt.Sprintf("/proc/%d/statm", pid), "", 1)
	return float64(pages * os.Getpagesize()), err
}

// machineBusy is the CPU time of everything that runs on this machine, in seconds.
func machineBusy() (busy float64) {
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // not idle, not waiting for a disk
		ticks, _ := field("/proc/stat", "cpu ", i) // each Linux has it
		busy += float64(ticks) * tick
	}
	return busy
}

// field reads the n-th word, a number, of the first line that begins so in a file of the kernel's.
func field(path, begin string, n int) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("this machine: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.HasPrefix(line, begin) && len(f) > n {
			return strconv.Atoi(f[n])
		}
	}
	return 0, fmt.Errorf("this machine: %s has no %q", path, begin)
}

var modelName = regexp.MustCompile(`model name\s*: (.*)`)

// machine describes what the figures were measured on.
func machine() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // without it the description is shorter
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	model := append(modelName.FindStringSubmatch(string(info)), "", "an unknown kind")[1]
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
