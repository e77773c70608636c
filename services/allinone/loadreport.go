package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/schollz/progressbar/v3"
)

// results reads the results of the stream to its end.
func (l *load) results(r io.Reader, bar *progressbar.ProgressBar) error {
	lines := bufio.NewReader(r)
	for {
		b, err := lines.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("the connection of the publisher broke: %w", err)
		}
		var result struct {
			proto.Result
			Done bool `json:"done"`
		}
		if err := json.Unmarshal(b, &result); err != nil {
			return fmt.Errorf("the answer is not NDJSON: %w", err)
		}
		if result.Done {
			return nil
		}
		if l.answered++; result.Problem != nil {
			if l.refused++; l.refused == 1 {
				fmt.Fprintf(l.std.err, "herald: refused: %s\n", onOneLine(result.Problem.Error()))
			}
		}
		if bar != nil {
			_ = bar.Add(1)
		}
	}
}

// expected is how many deliveries there must be.
func (l *load) expected() int64 {
	return int64(l.answered-l.refused) * int64(l.connections)
}

// settle waits until everything has arrived.
func (l *load) settle() {
	for deadline := time.Now().Add(loadSettles); l.deliver.Load() < l.expected() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// report prints what came of it. Messages that did not arrive are an error.
func (l *load) report() error {
	out := l.std.out
	stored := l.answered - l.refused
	fmt.Fprintf(out, "%d connections, %d messages in %s (%d refused), %d deliveries of %d\n", l.connections, stored,
		l.took, l.refused, l.deliver.Load(), l.expected())
	h := &l.latencies
	fmt.Fprintf(out, "from the publisher to a client: p50 %s  p90 %s  p99 %s  p99.9 %s  max %s\n\n",
		short(h.percentile(0.5)), short(h.percentile(0.9)), short(h.percentile(0.99)), short(h.percentile(0.999)),
		short(h.percentile(1)))
	h.plot(out)
	switch missing := l.expected() - l.deliver.Load(); {
	case l.lost.Load() > 0:
		return fmt.Errorf("%d connections ended, %d deliveries are missing; the first: %w", l.lost.Load(), missing,
			*cmp.Or(l.why.Load(), new(error)))
	case missing > 0:
		return fmt.Errorf("%d deliveries are missing", missing)
	case l.refused > 0:
		return fmt.Errorf("%d messages were refused", l.refused)
	}
	return nil
}

// histogram counts durations in buckets that grow by a twentieth, so a percentile
// is exact to five per cent. It is safe for concurrent use.
type histogram struct {
	buckets [400]atomic.Int64 // the first is up to a microsecond, the last beyond five minutes
}

const bucketGrowth = 1.05

// add counts a duration.
func (h *histogram) add(d time.Duration) {
	n := 0
	if us := float64(d) / float64(time.Microsecond); us > 1 {
		n = min(int(math.Log(us)/math.Log(bucketGrowth))+1, len(h.buckets)-1)
	}
	h.buckets[n].Add(1)
}

// bound is the upper end of bucket n.
func bound(n int) time.Duration {
	return time.Duration(math.Pow(bucketGrowth, float64(n)) * float64(time.Microsecond))
}

// percentile is the duration that a share of all does not exceed; 0: nothing was
// counted.
func (h *histogram) percentile(share float64) time.Duration {
	total := int64(0)
	for i := range h.buckets {
		total += h.buckets[i].Load()
	}
	want, seen := int64(math.Ceil(share*float64(total))), int64(0)
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen >= want && total > 0 {
			return bound(i)
		}
	}
	return 0
}

// plotWidth is that of the longest bar.
const plotWidth = 50

// plot draws a bar for each doubling of the duration.
func (h *histogram) plot(w io.Writer) {
	var rows []int64 // row i: up to 2^i µs
	total := int64(0)
	for i := range h.buckets {
		n := h.buckets[i].Load()
		row := max(0, int(math.Ceil(math.Log2(float64(bound(i))/float64(time.Microsecond))-0.001)))
		for len(rows) <= row {
			rows = append(rows, 0)
		}
		rows[row] += n
		total += n
	}
	first, last := len(rows), -1
	most := int64(1)
	for i, n := range rows {
		if n > 0 {
			first, last, most = min(first, i), i, max(most, n)
		}
	}
	for i := first; i <= last; i++ {
		bar := strings.Repeat("█", int(rows[i]*plotWidth/most))
		if bar == "" && rows[i] > 0 {
			bar = "▏"
		}
		fmt.Fprintf(w, "  ≤ %-7s %5.1f %%  %s\n", short(time.Duration(1<<i)*time.Microsecond),
			100*float64(rows[i])/float64(total), bar)
	}
}

// short is a duration with three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}
