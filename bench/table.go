//go:build linux

package main

import (
	"fmt"
	"maps"
	"math"
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
	values       values
	second       values // in the same cell, behind a stroke; nil: only one
	besideLoop   bool   // the next line says how many times the bare loop's it is
	ratio        bool   // it is that line, and not compared once more
}

// values are by candidate and round.
type values map[*candidate]map[int]float64

// unit writes a value.
type unit func(v float64) string

func seconds(v float64) string      { return fmt.Sprintf("%.2f s", v) }
func microseconds(v float64) string { return fmt.Sprintf("%.1f µs", v) }
func kilobytes(v float64) string    { return fmt.Sprintf("%.1f KB", max(0, v)/1e3) } // less is noise
func percent(v float64) string      { return fmt.Sprintf("%.0f %%", 100*v) }
func times(v float64) string        { return fmt.Sprintf("%.2f×", v) }

func milliseconds(v float64) string {
	if v < 0.01 {
		return fmt.Sprintf("%.1f ms", v*1e3)
	}
	return fmt.Sprintf("%.0f ms", v*1e3)
}

// perCore is for what takes so many microseconds.
func perCore(v float64) string {
	return fmt.Sprintf("%.1f µs: %s a second and core", v, thousands(int(math.Round(1e6/v))))
}

func newResult(p plan) *result { return &result{plan: p} }

func (r *result) record(what string, u unit, c *candidate, round int, value float64) *figure {
	if !strings.HasPrefix(what, "…") {
		r.parent = what
	}
	f := r.find(what, r.parent)
	if f == nil {
		f = &figure{what: what, parent: r.parent, unit: u, values: values{}}
		r.figures = append(r.figures, f)
	}
	f.values.set(c, round, value)
	return f
}

// and puts a second value into the cell.
func (f *figure) and(c *candidate, round int, value float64) {
	if f.second == nil {
		f.second = values{}
	}
	f.second.set(c, round, value)
}

func (v values) set(c *candidate, round int, value float64) {
	if v[c] == nil {
		v[c] = map[int]float64{}
	}
	v[c][round] = value
}

// all are a candidate's, in no order.
func (v values) all(c *candidate) []float64 { return slices.Collect(maps.Values(v[c])) }

// find is the figure with this title among those that belong to another one, or nil.
func (r *result) find(what, parent string) *figure {
	for _, f := range r.figures {
		if f.what == what && f.parent == parent {
			return f
		}
	}
	return nil
}

// against is how many times another candidate's each value is, within its round.
func (f *figure) against(other *candidate) values {
	ratios := values{}
	for c, rounds := range f.values {
		for round, v := range rounds {
			if w := f.values[other][round]; w > 0 {
				ratios.set(c, round, v/w)
			}
		}
	}
	return ratios
}

// loopRatio is the line that compares with the bare loop.
func (f *figure) loopRatio() *figure {
	return &figure{what: "… against the bare write(2) loop", parent: f.parent, unit: times, values: f.against(bareLoop()), ratio: true}
}

// cell is a candidate's median, the range if there were several rounds, and
// how many times the first candidate's that is: the median of the ratios
// within the rounds. Of two values it is the medians.
func (f *figure) cell(c *candidate) string {
	all := f.values.all(c)
	if len(all) == 0 {
		return "–"
	}
	text := f.unit(median(all))
	if f.second != nil {
		text = number(f.unit, median(all)) + " / " + f.unit(median(f.second.all(c)))
	}
	if c == candidates[0] {
		text = "**" + text + "**"
	}
	if f.second != nil {
		return text
	}
	if ratios := f.against(candidates[0]).all(c); c != candidates[0] && !f.ratio && len(ratios) > 0 {
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
	v = max(0, v)
	if v >= 10 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// markdown is the table, what must be known about it, and the goals.
func (r *result) markdown() string {
	var b strings.Builder
	b.WriteString("Herald's gateway beside what one would write or take instead: the server of gorilla's chat example, a server on Centrifugo's library, " +
		"and a bare loop of write(2), which is the least that pushing can cost. All get the same messages from the same NATS.\n\n| |")
	for _, c := range candidates {
		fmt.Fprintf(&b, " %s |", strings.TrimSpace(c.title))
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(candidates)) + "\n")
	for _, f := range r.arranged() {
		f.line(&b)
		if f.besideLoop {
			f.loopRatio().line(&b)
		}
	}
	b.WriteString("\n" + r.notes())
	for _, f := range r.failures {
		fmt.Fprintf(&b, "\n\nNot measured in one round: %s.", f)
	}
	if goals := r.goals(); goals != "" {
		b.WriteString("\n\nWhat Herald is held to, and whether this run reached it:\n\n" + goals)
	}
	return strings.TrimRight(b.String(), "\n")
}

// arranged are the figures in the order of the table: what a client costs that does
// nothing comes first, though it is measured among the others.
func (r *result) arranged() []*figure {
	first := []string{overTCP.idle, overTLS.idle, overTCP.handshake, overTLS.handshake, pingTitle}
	place := func(f *figure) int {
		if i := slices.Index(first, f.parent); i >= 0 {
			return i
		}
		return len(first)
	}
	return slices.SortedStableFunc(slices.Values(r.figures), func(f, g *figure) int { return place(f) - place(g) })
}

func (f *figure) line(b *strings.Builder) {
	fmt.Fprintf(b, "| %s |", f.what)
	for _, c := range candidates {
		fmt.Fprintf(b, " %s |", f.cell(c))
	}
	b.WriteString("\n")
}

// notes say what was measured, and how.
func (r *result) notes() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`make bench`, %s: %d processors of %s, %s, nats-server beside it, all on one machine over loopback. %s",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), machine(), runtime.Version(), r.rangeNote())
	fmt.Fprintf(&b, " CPU and memory are those of the server's process, kernel included; × is against Herald within a round, so it need not be the quotient of the two figures shown. "+
		"Messages carry %d bytes of data; %s deliveries a second are offered, fewer where that would be more than %s messages.",
		dataBytes, thousands(r.plan.rate), thousands(mostPerSecond))
	if len(r.foreign) > 0 {
		fmt.Fprintf(&b, " Other programs took %.0f %% of the machine meanwhile (median)", 100*median(r.foreign))
		if median(r.foreign) >= 0.05 {
			b.WriteString(", which makes CPU dearer, since caches are shared")
		}
		b.WriteString(".")
	}
	largest := r.plan.sizes[len(r.plan.sizes)-1]
	if r.find(overTCP.idle, overTCP.idle) != nil || r.find(overTLS.idle, overTLS.idle) != nil {
		fmt.Fprintf(&b, "\n\nIdle clients are %s, over TLS %s. Their memory is measured %.0f s after all have come at once, after garbage collection, and against the same process after %s others (over TLS %s) had come and gone, less what Go's runtime kept of them, "+
			"so that code, pools and tables that a server needs once are not on their bill. A handshake is everything from the connection to the first frame of a subscribed client, with up to %d under way at a time (over TLS %d).",
			thousands(largest), thousands(min(mostSecure, largest)), r.plan.rest.Seconds(), thousands(visitorsFor(largest)), thousands(visitorsFor(min(mostSecure, largest))), inFlight, handshakes)
	}
	if r.find(pingTitle, pingTitle) != nil {
		fmt.Fprintf(&b, " Pings are those of %s clients, %d each, less what the process does without clients.", thousands(min(mostPinged, largest)), r.plan.pingRounds)
	}
	if r.find(userTime, fan(largest, 1)) != nil {
		b.WriteString(" Time outside the kernel is estimated by the kernel's timer, and the bare loop, which does nothing there, shows by how much it is wrong. " +
			"System calls are counted by Go's CPU profiler while the same load runs once more; waking other threads (futex) is not among them.")
	}
	return b.String()
}

func (r *result) rangeNote() string {
	if r.rounds == 1 {
		return "One round."
	}
	return fmt.Sprintf("Median of %d rounds, of an even number the lower one (and the range), in which the servers took turns.", r.rounds)
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
