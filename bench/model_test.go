//go:build linux

package main

import (
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// The model's sums, with figures that can be followed by hand.
func TestForecasts(t *testing.T) {
	c := costs{conn: 1500, rush: 2500, kernel: 4500, base: 30e6, recent: 1000, wire: 400, frame: 234, shake: 100e-6, idle: 0.5e-6, deliver: 5e-6, single: 10e-6, receive: 20e-6, store: 50e-6, relay: 5e-6}
	table := c.forecasts()
	for _, want := range []string{
		"| gateways |  | 50 with 20,000 clients and 2 cores each | 10 with 100,000 clients and 4 cores each | 50 with 200,000 clients and 8 cores each |",
		"| memory for the connections | clients × (`conn` + `kernel`) | 6.0 GB | 6.0 GB | 60.0 GB |",
		"| memory beside them | gateways × (`base` + 65,536 × `recent`) | 4.8 GB | 955 MB | 4.8 GB |",
		"| memory in all | the sum | 10.8 GB | 7.0 GB | 64.8 GB |",
		"| request of a pod | `base` + 65,536 × `recent` + its clients × (`rush` + `kernel`) | 236 MB | 796 MB | 1.5 GB |",
		"| heartbeats, each 25 s | clients × `idle` | 0.5 cores | 0.5 cores | 5.0 cores |",
		"| a broadcast to all | clients × `deliver` | 5.0 s of CPU | 5.0 s of CPU | 50 s of CPU |",
		" | 0.05 s | 0.12 s | 0.12 s |",
		"| … one a second | / 1 s | 5.0 cores of 100 | 5.0 cores of 40 | 50 cores of 400 |",
		"| clients × (`frame` + 66) / 1 s | 2.4 Gbit/s | 2.4 Gbit/s | 24.0 Gbit/s |",
		"| 1,000/s × (gateways × `receive` + `single`) | 1.0 cores | 0.2 cores | 1.0 cores |",
		"| 1,000/s × (`store` + gateways × `relay`) | 0.3 cores | 0.1 cores | 0.3 cores |",
		"| 1,000/s × gateways × `wire` | 20.0 MB/s | 4.0 MB/s | 20.0 MB/s |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("got\n%s\nwant it to contain\n%s", table, want)
		}
	}
}

// What was too little to be measured makes nothing cheaper.
func TestForecastsOfNoise(t *testing.T) {
	c := costs{conn: -1, rush: -1, kernel: -1, base: -1, recent: -1, wire: -1, frame: -1, shake: -1, idle: -1, deliver: -1, single: -1, receive: -1, store: -1, relay: -1}
	if table := c.forecasts(); regexp.MustCompile(`[^a-z]-\d`).MatchString(table) {
		t.Errorf("got a negative figure in\n%s", table)
	}
}

// A rolling restart, played: pods go one after the other, and each client of one
// that goes comes to any of the others or the new one.
func TestRollingRestart(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, k := range []cluster{{20_000, 10_000, 1}, {100_000, 10_000, 1}, {200_000, 4_000, 1}} {
		old, renewed := make([]int, k.pods()), make([]int, k.pods())
		for i := range old {
			old[i] = k.perPod
		}
		moved, fullest := 0, 0
		for turn := range old {
			leaving := old[turn]
			moved, fullest = moved+leaving, max(fullest, leaving)
			for range leaving {
				if to := turn + 1 + random.IntN(k.pods()); to < k.pods() {
					old[to]++
				} else {
					renewed[to-k.pods()]++
				}
			}
		}
		if got, want := float64(moved)/float64(k.clients), k.moves(); math.Abs(got-want) > 0.05*want {
			t.Errorf("%d pods: each client moved %.2f times, the model says %.2f", k.pods(), got, want)
		}
		if got, want := float64(fullest), k.fullest(); math.Abs(got-want) > 0.07*want {
			t.Errorf("%d pods: the fullest had %.0f clients, the model says %.0f", k.pods(), got, want)
		}
	}
}

func TestBytesOf(t *testing.T) {
	for v, want := range map[float64]string{0: "0 bytes", 420: "420 bytes", -43: "-43 bytes", 1550: "1.6 KB", -3.9e6: "-3.9 MB", 52.4e6: "52 MB", 6.04e9: "6.0 GB"} {
		if got := bytesOf(v); got != want {
			t.Errorf("%g: got %s, want %s", v, got, want)
		}
	}
}
