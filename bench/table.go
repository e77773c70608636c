//go:build linux

package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"
)

// result is what a run measured, row by row in the order in which they came.
type result struct {
	plan        plan
	rounds      int
	rows        []*row
	parent      string // the title that titles with … belong to
	foreign     []float64
	failures    []string
	withoutNode string // why the Socket.IO server is not in the table; empty: it is
}

// row is one row of the table.
type row struct {
	title, parent string
	unit          unit
	values        values
}

// values are by candidate and round; several of one round stand in one cell, and only the first is compared.
type values map[*candidate]map[int][]float64

// of are a candidate's, of all rounds in no order, at this place of the cell.
func (v values) of(c *candidate, place int) (all []float64) {
	for _, list := range v[c] {
		all = append(all, list[place])
	}
	return all
}

// against is how many times another candidate's each value of a candidate is, within its round.
func (v values) against(c, other *candidate) (ratios []float64) {
	for round, list := range v[c] {
		if w := v[other][round]; w != nil && w[0] > 0 {
			ratios = append(ratios, list[0]/w[0])
		}
	}
	return ratios
}

// unit writes a value.
type unit func(v float64) string

func seconds(v float64) string      { return fmt.Sprintf("%.2f s", v) }
func microseconds(v float64) string { return fmt.Sprintf("%.1f µs", v) }
func kilobytes(v float64) string    { return fmt.Sprintf("%.1f KB", max(0, v)/1e3) } // less is noise
func times(v float64) string        { return fmt.Sprintf("%.2f×", v) }
func count(v float64) string        { return thousands(int(math.Round(v))) }

func milliseconds(v float64) string {
	if v < 0.01 {
		return fmt.Sprintf("%.1f ms", v*1e3)
	}
	return fmt.Sprintf("%.0f ms", v*1e3)
}

// perCore is for what costs so many microseconds.
func perCore(v float64) string { return fmt.Sprintf("%.1f µs: %s/s a core", v, count(1e6/v)) }

// thousands writes 10000 as 10,000.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = string(slices.Insert([]byte(s), i, ','))
	}
	return s
}

// record notes the values of a row in a round. A title that begins with … belongs to the one before it.
func (r *result) record(title string, u unit, c *candidate, round int, v ...float64) {
	if !strings.HasPrefix(title, "…") {
		r.parent = title
	}
	w := r.find(title, r.parent)
	if w == nil {
		w = &row{title, r.parent, u, values{}}
		r.rows = append(r.rows, w)
	}
	if w.values[c] == nil {
		w.values[c] = map[int][]float64{}
	}
	w.values[c][round] = v
}

// find is the row with this title among those that belong to another one, or nil.
func (r *result) find(title, parent string) *row {
	for _, w := range r.rows {
		if w.title == title && w.parent == parent {
			return w
		}
	}
	return nil
}

// cell is a candidate's median, how many times the first candidate's that is (the median of the ratios
// within the rounds), and the range if there were several rounds. Of several values in one cell it is the medians.
func (w *row) cell(c *candidate) string {
	if len(w.values[c]) == 0 {
		return "–"
	}
	number := func(v float64) string { n, _, _ := strings.Cut(w.unit(v), " "); return n }
	var medians []string
	for place := range slices.Collect(maps.Values(w.values[c]))[0] {
		medians = append(medians, w.unit(median(w.values.of(c, place))))
	}
	text := strings.ReplaceAll(strings.Join(medians, " / "), " ms /", " /")
	if c == candidates[0] {
		text = "**" + text + "**"
	}
	if len(medians) > 1 {
		return text
	}
	if ratios := w.values.against(c, candidates[0]); c != candidates[0] && len(ratios) > 0 {
		digits := 2
		if median(ratios) >= 10 {
			digits = 0
		}
		text += fmt.Sprintf(", %.*f×", digits, max(0, median(ratios)))
	}
	if all := w.values.of(c, 0); len(all) > 1 {
		text += " (" + number(slices.Min(all)) + "–" + number(slices.Max(all)) + ")"
	}
	return text
}

// markdown is the table, when and where it was measured, and the goals. What it measures is explained in
// docs/explanation/benchmarks.md.
func (r *result) markdown() string {
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range candidates {
		fmt.Fprintf(&b, " %s |", strings.TrimSpace(c.title))
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(candidates)) + "\n")
	// What an idle client costs comes first, though it is measured among the others.
	first := []string{pingTitle, handshakeTLS, handshake, idleMemoryTLS, idleMemory}
	for _, w := range slices.SortedStableFunc(slices.Values(r.rows), func(v, w *row) int {
		return slices.Index(first, w.parent) - slices.Index(first, v.parent)
	}) {
		fmt.Fprintf(&b, "| %s |", w.title)
		for _, c := range candidates {
			fmt.Fprintf(&b, " %s |", w.cell(c))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n`make bench`, %s: %d processors of %s, %s, %d rounds, clients %v.",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), machine(), runtime.Version(), r.rounds, r.plan.sizes)
	if r.withoutNode != "" {
		fmt.Fprintf(&b, " The Socket.IO server on Node is not in this table, because it could not be installed (%s).",
			r.withoutNode)
	}
	if len(r.foreign) > 0 {
		fmt.Fprintf(&b, " Other programs took %.0f %% of the machine meanwhile (median); the more, the dearer is CPU, "+
			"since caches are shared.", 100*median(r.foreign))
	}
	for _, f := range r.failures {
		fmt.Fprintf(&b, "\n\nNot measured in one round: %s.", f)
	}
	if verdicts := r.verdicts(); verdicts != "" {
		b.WriteString("\n\nWhat Herald is held to, and whether this run reached it:\n\n" +
			"| | goal | Herald | |\n| --- | --- | --- | --- |\n" + verdicts)
	}
	return strings.TrimRight(b.String(), "\n")
}

// goal is what a row of Herald's is to be.
type goal struct {
	title, parent string
	of, than      string // candidates; of: empty is Herald; than: the goal is so many times its figure, in one run
	bound         float64
	least         bool // at least; else at most
	beside        bool // met, too, where the bare loop misses the bound by as much: nobody can do with less
}

// goals are judged by medians of the rounds. Those per core are as microseconds.
var goals = []goal{
	{title: idleMemory, bound: 1500},
	{title: idleMemory, of: "herald-socketio", bound: 1600},
	{title: idleMemory, of: "herald-pusher", bound: 1600},
	{title: idleMemoryTLS, bound: 11_000},
	{title: handshake, bound: 95, beside: true},
	{title: pingTitle, bound: 14},
	{title: fan(1000, 1), than: "bare", bound: 1.1},
	{title: userTime, parent: fan(1000, 1), bound: 0.3, beside: true},
	{title: fan(1000, 1), of: "herald-socketio", than: "herald", bound: 1.15},
	{title: fan(1000, 1), of: "herald-pusher", than: "herald", bound: 1.15},
	{title: fan(1000, burstOf), bound: 1.8},
	{title: fan(10000, 1), than: "bare", bound: 1.1},
	{title: userTime, parent: fan(10000, 1), bound: 0.3, beside: true},
	{title: fan(10000, burstOf), bound: 1.8},
	{title: perUser, than: "centrifuge", bound: 0.75},
	{title: perUserArrays, than: "centrifuge", bound: 0.4},
	{title: unwanted, bound: 1e6 / 650_000},
	{title: singlePosts, bound: 1e6 / 22_000},
	{title: ndjson, bound: 1e6 / 140_000},
	{title: storedPerSecond, parent: singleSynced, bound: 30_000, least: true},
}

// verdicts are the rows of the table of goals that were measured.
func (r *result) verdicts() string {
	var b strings.Builder
	for _, g := range goals {
		w, of, than := r.find(g.title, cmp.Or(g.parent, g.title)), candidateOf(g.of), candidateOf(g.than)
		if w == nil || len(w.values[of]) == 0 {
			continue
		}
		what, unit, reached, sign := w.parent, w.unit, w.values.of(of, 0), "≤"
		for _, more := range []string{g.title, of.title} {
			if detail, ok := strings.CutPrefix(more, "… "); ok {
				what += ", " + detail
			}
		}
		if g.than != "" {
			what, unit, reached = what+", against "+than.title, times, w.values.against(of, than)
		}
		if g.least {
			sign = "≥"
		}
		if len(reached) > 0 {
			fmt.Fprintf(&b, "| %s | %s %s | %s | %s |\n", what, sign, unit(g.bound), unit(median(reached)), g.verdict(w, median(reached)))
		}
	}
	return b.String()
}

func (g goal) verdict(w *row, reached float64) string {
	loop, ratios := w.values.of(candidateOf("bare"), 0), w.values.against(candidates[0], candidateOf("bare"))
	switch {
	case g.least && reached >= g.bound || !g.least && reached <= g.bound:
		return "met"
	case !g.beside || len(ratios) == 0 || median(loop) <= g.bound:
		return "not met"
	case median(ratios) <= 1:
		return fmt.Sprintf("met: no more than the bare loop, %s", w.unit(median(loop)))
	}
	return fmt.Sprintf("not met, nor by the bare loop, %s", w.unit(median(loop)))
}
