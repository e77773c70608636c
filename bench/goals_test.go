//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestGoals(t *testing.T) {
	herald, loop := candidates[0], bareLoop()
	// Two rounds of a fan-out; the median is the lower value.
	fanOut := func(burst int, cpu, user, share, loopCPU, loopUser float64) *result {
		r := newResult(defaults())
		for round := range 2 {
			r.record(fan(1000, burst), seconds, herald, round, cpu).besideLoop = true
			r.record(userTime, seconds, herald, round, user)
			r.record(systemCalls, percent, herald, round, share)
			r.record(fan(1000, burst), seconds, loop, round, loopCPU)
			if loopUser > 0 {
				r.record(userTime, seconds, loop, round, loopUser)
			}
		}
		return r
	}
	one := func(what string, u unit, value float64) *result {
		r := newResult(defaults())
		r.record(what, u, herald, 0, value)
		return r
	}
	title := fan(1000, 1)
	for _, c := range []struct {
		name string
		r    *result
		want []string // lines
	}{
		{"nothing measured", newResult(defaults()), nil},
		{"of others only", func() *result {
			r := newResult(defaults())
			r.record(pingTitle, microseconds, candidates[1], 0, 1)
			return r
		}(), nil},
		{"all met", fanOut(1, 5, 0.3, 0.9, 5, 0.1), []string{
			title + ", against the bare write(2) loop | ≤ 1.10× | 1.00× | met",
			title + ", outside the kernel | ≤ 0.30 s | 0.30 s | met",
			title + ", CPU in system calls | ≥ 85 % | 90 % | met",
		}},
		{"none met", fanOut(1, 6, 0.4, 0.8, 5, 0.1), []string{
			title + ", against the bare write(2) loop | ≤ 1.10× | 1.20× | not met",
			title + ", outside the kernel | ≤ 0.30 s | 0.40 s | not met",
			title + ", CPU in system calls | ≥ 85 % | 80 % | not met",
		}},
		{"the loop itself misses it, by more", fanOut(1, 5, 0.4, 0.9, 5, 0.5), []string{
			"≤ 0.30 s | 0.40 s | met: no more than the bare loop, 0.50 s",
		}},
		{"the loop itself misses it, by less", fanOut(1, 5, 0.6, 0.9, 5, 0.5), []string{
			"≤ 0.30 s | 0.60 s | not met, nor by the bare loop, 0.50 s",
		}},
		{"without the loop's", fanOut(1, 5, 0.6, 0.9, 5, 0), []string{"≤ 0.30 s | 0.60 s | not met |"}},
		{"bursts", fanOut(burstOf, 1.9, 0, 0, 5, 1), []string{fan(1000, burstOf) + " | ≤ 1.80 s | 1.90 s | not met"}},
		{"idle", one(idleMemory, kilobytes, 1400), []string{"≤ 1.5 KB | 1.4 KB | met"}},
		{"idle over TLS", one(idleMemoryTLS, kilobytes, 11_100), []string{"≤ 11.0 KB | 11.1 KB | not met"}},
		{"handshake", one(handshake, microseconds, 95), []string{"≤ 95.0 µs | 95.0 µs | met"}},
		{"ping", one(pingTitle, microseconds, 14.1), []string{"≤ 14.0 µs | 14.1 µs | not met"}},
		{"single POSTs", one(singlePosts.Title, perCore, 34), []string{"≤ 34.5 µs: 29,000 a second and core | 34.0 µs: 29,412 a second and core | met"}},
		{"NDJSON", one(ndjson.Title, perCore, 10.1), []string{"≤ 10.0 µs: 100,000 a second and core | 10.1 µs: 99,010 a second and core | not met"}},
	} {
		got := c.r.goals()
		if c.want == nil && got != "" {
			t.Errorf("%s: got %q, want no table", c.name, got)
		}
		for _, line := range c.want {
			if !strings.Contains(got, line) {
				t.Errorf("%s: got\n%s\nwant it to contain %q", c.name, got, line)
			}
		}
	}
}
