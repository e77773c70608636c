//go:build linux

package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// smallScale is everything that `make scale` does, with a handful of connections.
// Its figures say nothing.
func smallScale() plan {
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
	if rows, want := strings.Count(text, "\n|"), strings.Count(sheet, "\n|"); rows != want {
		t.Errorf("got %d rows, want the %d of the worksheet", rows, want)
	}
	for _, size := range []string{"wire", "frame"} {
		if !regexp.MustCompile("`" + size + "` .* [234][0-9][0-9] bytes").MatchString(text) {
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
		if strings.Contains(line, "wants") {
			cancel(over)
		}
	})
	_, err := p.run(ctx, log)
	if !errors.Is(err, over) || !strings.Contains(err.Error(), "connections") {
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

// This machine can hold some connections.
func TestMachineAllows(t *testing.T) {
	if n, reason, err := machineAllows(); err != nil || n < 1 {
		t.Errorf("got %d connections for %q and %v, want some", n, reason, err)
	}
}

func TestSource(t *testing.T) {
	for n, want := range map[int][4]byte{0: {127, 1, 0, 1}, 254: {127, 1, 0, 255}, 255: {127, 1, 1, 0}} {
		if got := source(n); got != want {
			t.Errorf("%d: got %v, want %v", n, got, want)
		}
	}
}

// The sums of the worksheet, with inputs that can be followed by hand.
func TestForecasts(t *testing.T) {
	c := costs{"conn": 1500, "rush": 2500, "kernel": 4500, "base": 30e6, "recent": 1000, "wire": 400, "frame": 234,
		"shake": 100e-6,
		"idle":  0.5e-6, "deliver": 5e-6, "single": 10e-6, "receive": 20e-6, "store": 50e-6, "relay": 5e-6}
	table, _ := c.forecast(clusters...)
	for _, want := range []string{
		"| gateways | gateways | `clients / pod` | 50 | 10 | 50 |",
		"| `clients × (conn + kernel)` | 6.0 GB | 6.0 GB | 60.0 GB |",
		"| `base + 65536 × recent` | 95.5 MB | 95.5 MB | 95.5 MB |",
		"| `connections + gateways × fixed` | 10.8 GB | 7.0 GB | 64.8 GB |",
		"| `fixed + pod × (rush + kernel)` | 235.5 MB | 795.5 MB | 1.5 GB |",
		"| heartbeats, each 25 s |  | `clients × idle` | 0.5 cores | 0.5 cores | 5.0 cores |",
		"| `clients × deliver` | 5.00 s | 5.00 s | 50.00 s |",
		"| `pod × deliver / cores` | 0.05 s | 0.12 s | 0.12 s |",
		"| `broadcast / 1` | 5.0 cores | 5.0 cores | 50.0 cores |",
		"| `broadcast / (gateways × cores)` | 5 % | 12 % |",
		"| `clients × (frame + 66)` | 2.4 Gbit/s | 2.4 Gbit/s | 24.0 Gbit/s |",
		"| `1000 × (gateways × receive + single)` | 1.0 cores | 0.2 cores | 1.0 cores |",
		"| `1000 × (store + gateways × relay)` | 0.3 cores | 0.1 cores | 0.3 cores |",
		"| `1000 × gateways × wire` | 20.0 MB/s | 4.0 MB/s | 20.0 MB/s |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("got\n%s\nwant it to contain\n%s", table, want)
		}
	}
}

// inputs are those of the worksheet, each with this value.
func inputs(v float64) costs {
	c := costs{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(sheet, -1) {
		c[row[1]] = v
	}
	return c
}

// Every name of a formula is an input, a property of the cluster, or the value of a row above.
func TestSheetIsComplete(t *testing.T) {
	if text, _ := inputs(1).forecast(clusters...); strings.Contains(text, "NaN") {
		t.Errorf("a formula cannot be computed:\n%s", text)
	}
}

func TestEvaluate(t *testing.T) {
	names := costs{"a": 2, "b": 3}
	for formula, want := range map[string]float64{"a + b × 4": 14, "(a − b) / 2": -0.5, "(1 + 1/a) × b − 1": 3.5,
		"65536 + a": 65538} {
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
	text, _ := inputs(-1).forecast(clusters...)
	_, table, _ := strings.Cut(text, "what follows")
	if regexp.MustCompile(`\| -\d`).MatchString(table) {
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
		_, values := costs{}.forecast(k)
		says := values[0]
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
	for v, want := range map[float64]string{0: "0 bytes", 420: "420 bytes", -43: "-43 bytes", 1550: "1.6 KB",
		-3.9e6: "-3.9 MB", 52.4e6: "52.4 MB", 6.04e9: "6.0 GB"} {
		if got := bytesOf(v); got != want {
			t.Errorf("%g: got %s, want %s", v, got, want)
		}
	}
}
