//go:build linux

package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestMarkdown(t *testing.T) {
	r := newResult(defaults())
	r.rounds = 3
	herald, other, loop := candidates[0], candidates[1], bareLoop()
	for round, v := range []float64{2, 1, 4} { // the ratios are 2, 3 and 1.5, and twice the loop's, 2, 1 and 2
		r.record("CPU", seconds, herald, round, v).besideLoop = true
		r.record("… outside the kernel", seconds, herald, round, 0)
		r.record("… latency, p50 / p99", milliseconds, herald, round, 0.001*v).and(herald, round, 0.1*v)
		r.record("CPU", seconds, other, round, []float64{4, 3, 6}[round])
		r.record("… outside the kernel", seconds, other, round, 1)
		r.record("CPU", seconds, loop, round, []float64{1, 1, 2}[round])
	}
	r.record("memory", kilobytes, herald, 0, 1234)
	r.record("… outside the kernel", seconds, herald, 0, 7)
	r.record(idleMemory, kilobytes, herald, 0, 2000)
	r.record(liveMemory, kilobytes, herald, 0, 1000)
	r.failures = []string{"textbook with 3 clients: gone"}
	got := r.markdown()
	for _, want := range []string{
		"\n| --- | --- | --- | --- | --- |\n| an idle client, resident memory | **2.0 KB** | – | – | – |\n| … heap and stacks in use | **1.0 KB** | – | – | – |\n| CPU |",
		"| CPU | **2.00 s** (1.00–4.00) | 4.00 s, 2× (3.00–6.00) | – | 1.00 s, 0.5× (1.00–2.00) |\n" +
			"| … against the bare write(2) loop | **2.00×** (1.00×–2.00×) | 3.00× (3.00×–4.00×) | – | 1.00× (1.00×–1.00×) |\n" +
			"| … outside the kernel | **0.00 s** (0.00–0.00) | 1.00 s (1.00–1.00) | – | – |\n" +
			"| … latency, p50 / p99 | **2.0 / 200 ms** | – | – | – |\n",
		"| memory | **1.2 KB** | – | – | – |\n| … outside the kernel | **7.00 s** | – | – | – |\n\n",
		"Median of 3 rounds", "Not measured in one round: textbook with 3 clients: gone.",
		"| an idle client, resident memory | ≤ 1.5 KB | 2.0 KB | not met |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant it to contain\n%s", got, want)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h, low, high histogram
	if got := h.percentile(0.5); got != 0 {
		t.Errorf("of nothing: got %g, want 0", got)
	}
	for _, ms := range rand.Perm(1000) {
		part := &low
		if ms >= 500 {
			part = &high
		}
		part.add(time.Duration(ms+1) * time.Millisecond)
	}
	h.merge(&low)
	h.merge(&high)
	for p, want := range map[float64]float64{0.5: 0.5, 0.99: 0.99, 1: 1} {
		if got := h.percentile(p); got < want*0.99 || got > want*1.06 {
			t.Errorf("percentile %g: got %g, want %g to 5 %%", p, got, want)
		}
	}
	h.add(-time.Second) // clocks that disagree
	h.add(1e6 * time.Hour)
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{3, 1}, 1}, {[]float64{9, 1, 5}, 5}} {
		if got := median(c.v); got != c.want {
			t.Errorf("%v: got %g, want %g", c.v, got, c.want)
		}
	}
	for v, want := range map[int]string{7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(v); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
