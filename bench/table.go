//go:build linux

package main

import (
	"fmt"
	"maps"
	"math"
	"os"
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
	parent   string // the title that titles with … belong to
	foreign  []float64
	failures []string
}

// figure is one row of the table.
type figure struct {
	what, parent string
	unit         unit
	values       values
	second       values // in the same cell, behind a stroke; nil: only one
	besideLoop   bool   // the next row says how many times the bare loop's it is
	ratio        bool   // it is that row, and not compared once more
}

// values are by candidate and round.
type values map[*candidate]map[int]float64

func (v values) set(c *candidate, round int, value float64) {
	if v[c] == nil {
		v[c] = map[int]float64{}
	}
	v[c][round] = value
}

// all are a candidate's, in no order.
func (v values) all(c *candidate) []float64 { return slices.Collect(maps.Values(v[c])) }

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

// perCore is for what costs so many microseconds.
func perCore(v float64) string {
	return fmt.Sprintf("%.1f µs: %s a second and core", v, thousands(int(math.Round(1e6/v))))
}

// thousands writes 10000 as 10,000.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = string(slices.Insert([]byte(s), i, ','))
	}
	return s
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

// loopRatio is the row that compares with the bare loop.
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
	number := func(v float64) string { n, _, _ := strings.Cut(f.unit(v), " "); return n }
	text := f.unit(median(all))
	if f.second != nil {
		text = number(median(all)) + " / " + f.unit(median(f.second.all(c)))
	}
	if c == candidates[0] {
		text = "**" + text + "**"
	}
	if f.second != nil {
		return text
	}
	if ratios := f.against(candidates[0]).all(c); c != candidates[0] && !f.ratio && len(ratios) > 0 {
		text += ", " + shortRatio(max(0, median(ratios)))
	}
	if len(all) > 1 {
		text += " (" + number(slices.Min(all)) + "–" + number(slices.Max(all)) + ")"
	}
	return text
}

func shortRatio(v float64) string {
	if v >= 10 {
		return fmt.Sprintf("%.0f×", v)
	}
	return fmt.Sprintf("%.2g×", v)
}

func (f *figure) row(b *strings.Builder) {
	fmt.Fprintf(b, "| %s |", f.what)
	for _, c := range candidates {
		fmt.Fprintf(b, " %s |", f.cell(c))
	}
	b.WriteString("\n")
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
	// What an idle client costs comes first, though it is measured among the others.
	first := []string{pingTitle, handshakeTLS, handshake, idleMemoryTLS, idleMemory}
	for _, f := range slices.SortedStableFunc(slices.Values(r.figures), func(f, g *figure) int {
		return slices.Index(first, g.parent) - slices.Index(first, f.parent)
	}) {
		f.row(&b)
		if f.besideLoop {
			f.loopRatio().row(&b)
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

// notes say what was measured, and how.
func (r *result) notes() string {
	var b strings.Builder
	rounds := "One round."
	if r.rounds != 1 {
		rounds = fmt.Sprintf("Median of %d rounds, of an even number the lower one (and the range), in which the servers took turns.", r.rounds)
	}
	fmt.Fprintf(&b, "`make bench`, %s: %d processors of %s, %s, nats-server beside it, all on one machine over loopback. %s",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), machine(), runtime.Version(), rounds)
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
	secure := min(mostSecure, largest)
	if r.find(idleMemory, idleMemory) != nil || r.find(idleMemoryTLS, idleMemoryTLS) != nil {
		fmt.Fprintf(&b, "\n\nIdle clients are %s, over TLS %s. Their memory is measured %.0f s after all have come at once, after garbage collection, and against the same process after %s others (over TLS %s) had come and gone, less what Go's runtime kept of them, "+
			"so that code, pools and tables that a server needs once are not on their bill. A handshake is everything from the connection to the first frame of a subscribed client, with up to %d under way at a time (over TLS %d).",
			thousands(largest), thousands(secure), r.plan.rest.Seconds(), thousands(visitorsFor(largest)), thousands(visitorsFor(secure)), inFlight, inFlightTLS)
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

// goal is what a figure of Herald's is to be.
type goal struct {
	figure *figure // nil: not measured in this run
	bound  float64
	least  bool // at least; else at most
	beside bool // met, too, where the bare loop misses the bound by as much: nobody can do with less
}

// held are all goals whose figures were measured. Those per core are as microseconds.
func (r *result) held() []goal {
	title := func(what string) *figure { return r.find(what, what) }
	list := []goal{
		{figure: title(idleMemory), bound: 1500},
		{figure: title(idleMemoryTLS), bound: 11_000},
		{figure: title(handshake), bound: 95, beside: true},
		{figure: title(pingTitle), bound: 14},
	}
	for _, n := range []int{1000, 10000} {
		if f := title(fan(n, 1)); f != nil {
			list = append(list,
				goal{figure: f.loopRatio(), bound: 1.1},
				goal{figure: r.find(userTime, f.what), bound: 0.3, beside: true},
				goal{figure: r.find(systemCalls, f.what), bound: 0.85, least: true})
		}
		list = append(list, goal{figure: title(fan(n, burstOf)), bound: 1.8})
	}
	list = append(list,
		goal{figure: title(singlePosts.Title), bound: 1e6 / 29_000},
		goal{figure: title(ndjson.Title), bound: 1e6 / 100_000})
	return slices.DeleteFunc(list, func(g goal) bool { return g.figure == nil || len(g.figure.values[candidates[0]]) == 0 })
}

// goals is the table of them; empty if none was measured.
func (r *result) goals() string {
	var b strings.Builder
	for i, g := range r.held() {
		if i == 0 {
			b.WriteString("| | goal | Herald | |\n| --- | --- | --- | --- |\n")
		}
		f, than := g.figure, "≤"
		if g.least {
			than = "≥"
		}
		what := f.what
		if what != f.parent {
			what = f.parent + ", " + strings.TrimPrefix(what, "… ")
		}
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s |\n", what, than, f.unit(g.bound), f.unit(median(f.values.all(candidates[0]))), g.verdict())
	}
	return b.String()
}

// verdict is by the median of the rounds.
func (g goal) verdict() string {
	v, loop := median(g.figure.values.all(candidates[0])), g.figure.values.all(bareLoop())
	switch ratios := g.figure.against(bareLoop()).all(candidates[0]); {
	case g.least && v >= g.bound || !g.least && v <= g.bound:
		return "met"
	case !g.beside || len(loop) == 0 || median(loop) <= g.bound:
		return "not met"
	case len(ratios) > 0 && median(ratios) <= 1:
		return fmt.Sprintf("met: no more than the bare loop, %s", g.figure.unit(median(loop)))
	default:
		return fmt.Sprintf("not met, nor by the bare loop, %s", g.figure.unit(median(loop)))
	}
}

// writeBetween puts text between the two marks of this name in a file, which must be there.
func writeBetween(path, name, text string) error {
	begin, end := "<!-- "+name+":begin -->", "<!-- "+name+":end -->"
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
