//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// goal is what a figure of Herald's is to be.
type goal struct {
	figure *figure // nil: not measured in this run
	bound  float64
	least  bool // at least; else at most
	// beside lets the bare loop excuse a figure: nobody can be asked for less than
	// what the loop shows in the same round.
	beside bool
}

// goalSizes are the numbers of clients for which the goals of fan-outs are set.
var goalSizes = []int{1000, 10000}

// held are all goals. Those per core are as microseconds.
func (r *result) held() []goal {
	title := func(what string) *figure { return r.find(what, what) }
	list := []goal{
		{figure: title(overTCP.idle), bound: 1500},
		{figure: title(overTLS.idle), bound: 11_000},
		{figure: title(overTCP.handshake), bound: 95, beside: true},
		{figure: title(pingTitle), bound: 14},
	}
	for _, n := range goalSizes {
		if f := title(fan(n, 1)); f != nil {
			list = append(list,
				goal{figure: f.loopRatio(), bound: 1.1},
				goal{figure: r.find(userTime, f.what), bound: 0.3, beside: true},
				goal{figure: r.find(systemCalls, f.what), bound: 0.85, least: true})
		}
		list = append(list, goal{figure: title(fan(n, burstOf)), bound: 1.8})
	}
	list = append(list,
		goal{figure: title(ways["single"].title), bound: 1e6 / 29_000},
		goal{figure: title(ways["ndjson"].title), bound: 1e6 / 100_000})
	return slices.DeleteFunc(list, func(g goal) bool { return g.figure == nil || len(g.figure.values[candidates[0]]) == 0 })
}

// goals is the table of them; empty if none was measured.
func (r *result) goals() string {
	list := r.held()
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| | goal | Herald | |\n| --- | --- | --- | --- |\n")
	for _, g := range list {
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
	v := median(g.figure.values.all(candidates[0]))
	if g.least && v >= g.bound || !g.least && v <= g.bound {
		return "met"
	}
	loop := g.figure.values.all(bareLoop())
	if !g.beside || len(loop) == 0 || median(loop) <= g.bound {
		return "not met"
	}
	if ratios := g.figure.against(bareLoop()).all(candidates[0]); len(ratios) > 0 && median(ratios) <= 1 {
		return fmt.Sprintf("met: no more than the bare loop, %s", g.figure.unit(median(loop)))
	}
	return fmt.Sprintf("not met, nor by the bare loop, %s", g.figure.unit(median(loop)))
}
