//go:build linux

package main

import (
	"strings"
	"testing"
)

// resultOf is a result of two rounds with these rows: candidates' first values, and titles that belong to a row.
func resultOf(rows ...[]any) *result {
	r := &result{plan: defaults(), rounds: 2}
	for _, w := range rows {
		for _, cell := range w[2:] {
			c := cell.([]float64)
			for round, v := range c[1:] {
				r.record(w[0].(string), w[1].(func(float64) string), candidates[int(c[0])], round, v)
			}
		}
	}
	return r
}

const herald, sio, centrifugo, loop = 0., 1., 4., 6. // places of candidates

func TestMarkdown(t *testing.T) {
	r := resultOf(
		[]any{"CPU", seconds, []float64{herald, 2, 1}, []float64{centrifugo, 4, 3}, []float64{loop, 1, 1}}, // × 2 and 3
		[]any{userTime, seconds, []float64{herald, 0, 0}, []float64{centrifugo, 1, 1}},
		[]any{"memory", kilobytes, []float64{herald, 1234}},
		[]any{userTime, seconds, []float64{herald, 7}},
		[]any{idleMemory, kilobytes, []float64{herald, 2000}},
		[]any{liveMemory, kilobytes, []float64{herald, 1000}})
	r.record("load", seconds, candidates[0], 0, 1)
	r.record(latencies, milliseconds, candidates[0], 0, 0.002, 0.05, 0.2)
	r.failures, r.withoutNode = []string{"textbook with 3 clients: gone"}, "npm ci: no such file"
	got := r.markdown()
	for _, want := range []string{
		"|\n| an idle client, resident memory | **2.0 KB** | – | – | – | – | – | – |\n" +
			"| … heap and stacks in use | **1.0 KB** |",
		"| CPU | **1.50 s** (1.00–2.00) | – | – | – | 3.50 s, 2.50× (3.00–4.00) | – | 1.00 s, 0.75× (1.00–1.00) |\n" +
			"| … outside the kernel | **0.00 s** (0.00–0.00) | – | – | – | 1.00 s (1.00–1.00) | – | – |\n",
		"| memory | **1.2 KB** | – | – | – | – | – | – |\n| … outside the kernel | **7.00 s** |",
		"| … latency, p50 / p95 / p99 | **2.0 / 50 / 200 ms** |",
		"2 rounds, clients [1000 10000].", "Not measured in one round: textbook with 3 clients: gone.",
		"could not be installed (npm ci: no such file)",
		"| an idle client, resident memory | ≤ 1.5 KB | 2.0 KB | not met |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant it to contain\n%s", got, want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	title := fan(1000, 1)
	of := func(user, loopUser float64) *result {
		return resultOf([]any{title, seconds, []float64{herald, 6}, []float64{sio, 6.6}, []float64{loop, 5}},
			[]any{userTime, seconds, []float64{herald, user}, []float64{loop, loopUser}})
	}
	for _, c := range []struct {
		name string
		r    *result
		want string // a line; empty: no goal
	}{
		{"nothing measured", &result{}, ""},
		{"of others only", resultOf([]any{pingTitle, microseconds, []float64{loop, 1}}), ""},
		{"against another", of(1, 1), title + ", against bare write(2) | ≤ 1.10× | 1.20× | not met"},
		{"of a dialect", of(1, 1), title + ", Socket.IO clients, against Herald | ≤ 1.15× | 1.10× | met"},
		{"met", of(0.3, 0.1), title + ", outside the kernel | ≤ 0.30 s | 0.30 s | met"},
		{"not met", of(0.4, 0.1), "≤ 0.30 s | 0.40 s | not met |"},
		{"idle over TLS", resultOf([]any{idleMemoryTLS, kilobytes, []float64{herald, 11_100}}),
			"≤ 11.0 KB | 11.1 KB | not met"},
		{"ping", resultOf([]any{pingTitle, microseconds, []float64{herald, 14.1}}), "≤ 14.0 µs | 14.1 µs | not met"},
		{"per core", resultOf([]any{unwanted, perCore, []float64{herald, 1.25}}),
			"≤ 1.5 µs: 650,000/s a core | 1.2 µs: 800,000/s a core | met"},
		{"at least", resultOf([]any{singleSynced, perCore, []float64{herald, 50}},
			[]any{storedPerSecond, count, []float64{herald, 29_999}}),
			singleSynced + ", stored per second | ≥ 30,000 | 29,999 | not met"},
	} {
		if got := tableOf(c.r.verdicts()); !strings.Contains(got, c.want) || c.want == "" &&
			got != tableOf((&result{}).verdicts()) {
			t.Errorf("%s: got\n%s\nwant it to contain %q", c.name, got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 5}, 5}} {
		if got := median(c.v); got != c.want {
			t.Errorf("%v: got %g, want %g", c.v, got, c.want)
		}
	}
}
