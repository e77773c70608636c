//go:build linux

package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// result is what a run measured, figure by figure in the order in which they came.
type result struct {
	plan     plan
	rounds   int
	figures  []*figure
	parent   string // what the titles that begin with … belong to
	foreign  []float64
	failures []string
}

// figure is one line of the table.
type figure struct {
	what, parent string
	unit         unit
	values       map[*candidate]map[int]float64 // by candidate and round
}

// unit writes a value.
type unit func(v float64) string

func seconds(v float64) string      { return fmt.Sprintf("%.2f s", v) }
func microseconds(v float64) string { return fmt.Sprintf("%.1f µs", v) }
func milliseconds(v float64) string { return fmt.Sprintf("%.1f ms", v*1e3) }
func kilobytes(v float64) string    { return fmt.Sprintf("%.1f KB", v/1e3) }

// perCore is for what takes so many microseconds.
func perCore(v float64) string {
	return fmt.Sprintf("%.1f µs: %s a second and core", v, thousands(int(1e6/v)))
}

func newResult(p plan) *result { return &result{plan: p} }

func (r *result) record(what string, u unit, c *candidate, round int, value float64) {
	if !strings.HasPrefix(what, "…") {
		r.parent = what
	}
	var f *figure
	for _, known := range r.figures {
		if known.what == what && known.parent == r.parent {
			f = known
		}
	}
	if f == nil {
		f = &figure{what, r.parent, u, map[*candidate]map[int]float64{}}
		r.figures = append(r.figures, f)
	}
	if f.values[c] == nil {
		f.values[c] = map[int]float64{}
	}
	f.values[c][round] = value
}

// cell is a candidate's median, the range if there were several rounds, and
// how many times the first candidate's that is: the median of the ratios
// within the rounds.
func (f *figure) cell(c *candidate) string {
	var all, ratios []float64
	for round, v := range f.values[c] {
		all = append(all, v)
		if first, ok := f.values[candidates[0]][round]; ok && first > 0 {
			ratios = append(ratios, v/first)
		}
	}
	if len(all) == 0 {
		return "–"
	}
	text := f.unit(median(all))
	if c == candidates[0] {
		text = "**" + text + "**"
	} else if len(ratios) > 0 {
		text += fmt.Sprintf(", %s×", shortRatio(median(ratios)))
	}
	if len(all) > 1 {
		text += " (" + number(f.unit, slices.Min(all)) + "–" + number(f.unit, slices.Max(all)) + ")"
	}
	return text
}

// number is the value without its unit.
func number(u unit, v float64) string {
	n, _, _ := strings.Cut(u(v), " ")
	return n
}

func shortRatio(v float64) string {
	if v >= 10 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// markdown is the table and what must be known about it.
func (r *result) markdown() string {
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range candidates {
		fmt.Fprintf(&b, " %s |", strings.TrimSpace(c.title))
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(candidates)) + "\n")
	for _, f := range r.figures {
		fmt.Fprintf(&b, "| %s |", f.what)
		for _, c := range candidates {
			fmt.Fprintf(&b, " %s |", f.cell(c))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n`make bench`, %s: %d processors of %s, %s, nats-server beside it, all on one machine over loopback. %s",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), machine(), runtime.Version(), r.rangeNote())
	fmt.Fprintf(&b, " CPU and memory are those of the server's process, kernel included; × is against Herald in the same round. "+
		"Messages carry %d bytes of data; %s deliveries a second are offered, fewer where that would be more than %s messages.",
		dataBytes, thousands(r.plan.rate), thousands(mostPerSecond))
	if len(r.foreign) > 0 {
		fmt.Fprintf(&b, " Other programs took %.0f %% of the machine meanwhile (median).", 100*median(r.foreign))
	}
	for _, f := range r.failures {
		fmt.Fprintf(&b, "\n\nNot measured in one round: %s.", f)
	}
	return b.String()
}

func (r *result) rangeNote() string {
	if r.rounds == 1 {
		return "One round."
	}
	return fmt.Sprintf("Median of %d rounds (and the range) in which the servers took turns.", r.rounds)
}

const (
	beginMark = "<!-- bench:begin -->"
	endMark   = "<!-- bench:end -->"
	heading   = "## How fast\n"
	follows   = "## How it is built\n"
)

var marked = regexp.MustCompile(`(?s)` + beginMark + `.*` + endMark)

// intoReadme puts the table between the marks, and where there are none makes
// the section for it: before the one on how it is built, or at the end.
func intoReadme(readme, table string) string {
	section := beginMark + "\n" + table + "\n" + endMark
	if marked.MatchString(readme) {
		return marked.ReplaceAllLiteralString(readme, section)
	}
	section = heading + "\n" + section + "\n"
	if before, after, ok := strings.Cut(readme, follows); ok {
		return before + section + "\n" + follows + after
	}
	return strings.TrimRight(readme, "\n") + "\n\n" + section
}

// writeBetween puts text between two marks of a file, which must be there.
func writeBetween(path, begin, end, text string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("write the tables: %s has no marks %s and %s", path, begin, end)
	}
	if err := os.WriteFile(path, []byte(before+begin+"\n"+strings.TrimSpace(text)+"\n"+end+after), 0o644); err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	return nil
}

func writeReadme(path, table string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	if err := os.WriteFile(path, []byte(intoReadme(string(b), table)), 0o644); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
