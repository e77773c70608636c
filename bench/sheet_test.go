//go:build linux

package main

import (
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// The sums of the worksheet, with inputs that can be followed by hand.
func TestForecasts(t *testing.T) {
	c := costs{"conn": 1500, "rush": 2500, "kernel": 4500, "base": 30e6, "recent": 1000, "wire": 400, "frame": 234, "shake": 100e-6,
		"idle": 0.5e-6, "deliver": 5e-6, "single": 10e-6, "receive": 20e-6, "store": 50e-6, "relay": 5e-6}
	table := c.forecasts()
	for _, want := range []string{
		"| gateways | gateways | `clients / pod` | 50 | 10 | 50 |",
		"| `clients × (conn + kernel)` | 6.0 GB | 6.0 GB | 60.0 GB |",
		"| `base + 65536 × recent` | 96 MB | 96 MB | 96 MB |",
		"| `connections + gateways × fixed` | 10.8 GB | 7.0 GB | 64.8 GB |",
		"| `fixed + pod × (rush + kernel)` | 236 MB | 796 MB | 1.5 GB |",
		"| heartbeats, each 25 s |  | `clients × idle` | 0.5 cores | 0.5 cores | 5.0 cores |",
		"| `clients × deliver` | 5.00 s | 5.00 s | 50.00 s |",
		"| `pod × deliver / cores` | 0.05 s | 0.12 s | 0.12 s |",
		"| `broadcast / 1` | 5.0 cores | 5.0 cores | 50 cores |",
		"| `broadcast / (gateways × cores)` | 5 % | 12 % |",
		"| `clients × (frame + 66)` | 2.4 Gbit/s | 2.4 Gbit/s | 24.0 Gbit/s |",
		"| `1000 × (gateways × receive + single)` | 1.0 cores | 0.21 cores | 1.0 cores |",
		"| `1000 × (store + gateways × relay)` | 0.3 cores | 0.1 cores | 0.3 cores |",
		"| `1000 × gateways × wire` | 20.0 MB/s | 4.0 MB/s | 20.0 MB/s |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("got\n%s\nwant it to contain\n%s", table, want)
		}
	}
}

// Every name of a formula is an input, a property of the cluster, or the value of a row above.
func TestSheetIsComplete(t *testing.T) {
	all := costs{}
	for _, i := range inputs {
		all[i.name] = 1
	}
	column, _ := all.compute(clusters[0])
	for i, l := range sheet {
		if math.IsNaN(column[i]) {
			t.Errorf("%s: %q cannot be computed", l.what, l.text)
		}
	}
}

func TestEvaluate(t *testing.T) {
	names := costs{"a": 2, "b": 3}
	for formula, want := range map[string]float64{"a + b × 4": 14, "(a − b) / 2": -0.5, "(1 + 1/a) × b − 1": 3.5, "65536": 65536} {
		if got := evaluate(formula, names); got != want {
			t.Errorf("%s: got %g, want %g", formula, got, want)
		}
	}
	for _, formula := range []string{"a + c", "a +", "a % b", "f(a)"} {
		if got := evaluate(formula, names); !math.IsNaN(got) {
			t.Errorf("%s: got %g, want no number", formula, got)
		}
	}
}

// What was too little to be measured makes nothing cheaper.
func TestForecastsOfNoise(t *testing.T) {
	c := costs{}
	for _, i := range inputs {
		c[i.name] = -1
	}
	if table := c.forecasts(); regexp.MustCompile(`\| -\d`).MatchString(table) {
		t.Errorf("got a negative figure in\n%s", table)
	}
}

// A simulated rolling restart: pods stop one after the other, and each client of one
// that stops comes to any of the others or the new one.
func TestRollingRestart(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, k := range []costs{{"clients": 100_000, "pod": 10_000}, {"clients": 200_000, "pod": 4_000}} {
		_, says := costs{}.compute(k)
		pods := int(says["gateways"])
		old, renewed := make([]int, pods), make([]int, pods)
		for i := range old {
			old[i] = int(k["pod"])
		}
		moved, fullest := 0, 0
		for turn := range old {
			stopping := old[turn]
			moved, fullest = moved+stopping, max(fullest, stopping)
			for range stopping {
				if to := turn + 1 + random.IntN(pods); to < pods {
					old[to]++
				} else {
					renewed[to-pods]++
				}
			}
		}
		if got, want := float64(moved)/k["clients"], says["moves"]; math.Abs(got-want) > 0.05*want {
			t.Errorf("%d pods: each client moved %.2f times, the worksheet says %.2f", pods, got, want)
		}
		if got, want := float64(fullest), says["fullest"]; math.Abs(got-want) > 0.07*want {
			t.Errorf("%d pods: the fullest had %.0f clients, the worksheet says %.0f", pods, got, want)
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
