package main

import (
	"strings"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h histogram
	if got := h.percentile(0.5); got != 0 {
		t.Errorf("an empty one has a median of %s", got)
	}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for share, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.9: 900 * time.Millisecond,
		0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := h.percentile(share); got < want || got > want+want/20 {
			t.Errorf("percentile %g: got %s, want %s to five per cent", share, got, want)
		}
	}
	h.add(-time.Second) // of a clock that somebody set back
	h.add(time.Hour)
	var plot strings.Builder
	h.plot(&plot)
	if got := plot.String(); !strings.HasPrefix(got, "  ≤ 1µs") ||
		!strings.Contains(got, strings.Repeat("█", plotWidth)) || !strings.Contains(got, "▏") {
		t.Errorf("got\n%s", got)
	}
}
