//go:build linux

package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// result is what a run measured, row by row in the order in which they came.
type result struct {
	plan        plan
	rounds      int
	rows        []*row
	parent      string  // the title that titles with … belong to
	foreign     float64 // part of the machine that programs which are not of the run used
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

// median of at least one value; of an even number the mean of the two in the middle.
func median(v []float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	return (sorted[(len(v)-1)/2] + sorted[len(v)/2]) / 2
}

// unit writes a value.
type unit func(v float64) string

func seconds(v float64) string      { return fmt.Sprintf("%.2f s", v) }
func microseconds(v float64) string { return fmt.Sprintf("%.1f µs", v) }
func kilobytes(v float64) string    { return fmt.Sprintf("%.1f KB", max(0, v)/1e3) } // less is noise
func times(v float64) string        { return fmt.Sprintf("%.2f×", v) }
func count(v float64) string        { return humanize.Comma(int64(math.Round(v))) }

func milliseconds(v float64) string {
	if v < 0.01 {
		return fmt.Sprintf("%.1f ms", v*1e3)
	}
	return fmt.Sprintf("%.0f ms", v*1e3)
}

// perCore is for what costs so many microseconds.
func perCore(v float64) string { return fmt.Sprintf("%.1f µs: %s/s a core", v, count(1e6/v)) }

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
	if i := slices.IndexFunc(r.rows, func(w *row) bool { return w.title == title && w.parent == parent }); i >= 0 {
		return r.rows[i]
	}
	return nil
}

// cell is a candidate's median, how many times the first candidate's that is (the median of the ratios within the
// rounds), and the range if there were several rounds. Of several values in one cell it is the medians.
func (w *row) cell(c *candidate) string {
	if len(w.values[c]) == 0 {
		return "–"
	}
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
		number := func(v float64) string { n, _, _ := strings.Cut(w.unit(v), " "); return n }
		text += " (" + number(slices.Min(all)) + "–" + number(slices.Max(all)) + ")"
	}
	return text
}

// markdown is the table, when and where it was measured, and the goals. What it measures is explained in
// docs/explanation/benchmarks.md.
func (r *result) markdown() string {
	table := [][]string{{""}}
	for _, c := range candidates {
		table[0] = append(table[0], c.title)
	}
	// What an idle client costs comes first, though it is measured among the others.
	first := []string{pingTitle, handshakeTLS, handshake, idleMemoryTLS, idleMemory}
	for _, w := range slices.SortedStableFunc(slices.Values(r.rows), func(v, w *row) int {
		return slices.Index(first, w.parent) - slices.Index(first, v.parent)
	}) {
		cells := []string{w.title}
		for _, c := range candidates {
			cells = append(cells, w.cell(c))
		}
		table = append(table, cells)
	}
	text := tableOf(table) + fmt.Sprintf("\n`make bench`, %s: %s, %d rounds, clients %v.",
		time.Now().UTC().Format(time.DateOnly), machine(), r.rounds, r.plan.sizes)
	if r.withoutNode != "" {
		text += " The Socket.IO server on Node is not in this table, because it could not be installed (" +
			r.withoutNode + ")."
	}
	text += fmt.Sprintf(" Other programs took %.0f %% of the machine meanwhile; the more, the dearer is CPU, since "+
		"caches are shared.", 100*r.foreign)
	for _, f := range r.failures {
		text += "\n\nNot measured in one round: " + f + "."
	}
	if verdicts := r.verdicts(); len(verdicts) > 1 {
		text += "\n\nWhat Herald is held to, and whether this run reached it:\n\n" + tableOf(verdicts)
	}
	return strings.TrimSpace(text)
}

// tableOf writes a table in Markdown; its first row is the head.
func tableOf(rows [][]string) string {
	var b strings.Builder
	for i, r := range rows {
		b.WriteString(strings.ReplaceAll("| "+strings.Join(r, " | ")+" |\n", "|  |", "| |"))
		if i == 0 {
			b.WriteString("|" + strings.Repeat(" --- |", len(r)) + "\n")
		}
	}
	return b.String()
}

// goal is what a row of Herald's is to be.
type goal struct {
	title, parent string
	of, than      string // candidates; of: empty is Herald; than: the goal is so many times its figure, in one run
	bound         float64
	least         bool // at least; else at most
}

// goals are judged by medians of the rounds. Those per core are as microseconds.
var goals = []goal{
	{title: idleMemory, bound: 1500},
	{title: idleMemory, of: "herald-socketio", bound: 1600},
	{title: idleMemory, of: "herald-pusher", bound: 1600},
	{title: idleMemoryTLS, bound: 11_000},
	{title: handshake, bound: 95},
	{title: pingTitle, bound: 14},
	{title: fan(1000, 1), than: "bare", bound: 1.1},
	{title: userTime, parent: fan(1000, 1), bound: 0.3},
	{title: fan(1000, 1), of: "herald-socketio", than: "herald", bound: 1.15},
	{title: fan(1000, 1), of: "herald-pusher", than: "herald", bound: 1.15},
	{title: fan(1000, burstOf), bound: 1.8},
	{title: fan(10000, 1), than: "bare", bound: 1.1},
	{title: userTime, parent: fan(10000, 1), bound: 0.3},
	{title: fan(10000, burstOf), bound: 1.8},
	{title: perUser, than: "centrifuge", bound: 0.75},
	{title: perUserArrays, than: "centrifuge", bound: 0.4},
	{title: unwanted, bound: 1e6 / 650_000},
	{title: singlePosts, bound: 1e6 / 22_000},
	{title: ndjson, bound: 1e6 / 140_000},
	{title: storedPerSecond, parent: singleSynced, bound: 30_000, least: true},
}

// verdicts are a head, and the rows of the table of goals that were measured.
func (r *result) verdicts() [][]string {
	table := [][]string{{"", "goal", "Herald", ""}}
	for _, g := range goals {
		w, of, than := r.find(g.title, cmp.Or(g.parent, g.title)), candidateOf(g.of), candidateOf(g.than)
		if w == nil || len(w.values[of]) == 0 {
			continue
		}
		what, unit, reached, sign, verdict := w.parent, w.unit, w.values.of(of, 0), "≤ ", "not met"
		for _, more := range []string{g.title, of.title} {
			if detail, ok := strings.CutPrefix(more, "… "); ok {
				what += ", " + detail
			}
		}
		if g.than != "" {
			what, unit, reached = what+", against "+than.title, times, w.values.against(of, than)
		}
		if len(reached) == 0 {
			continue
		}
		if g.least {
			sign = "≥ "
		}
		if got := median(reached); g.least && got >= g.bound || !g.least && got <= g.bound {
			verdict = "met"
		}
		table = append(table, []string{what, sign + unit(g.bound), unit(median(reached)), verdict})
	}
	return table
}
