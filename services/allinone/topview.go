package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/herald-push/herald/services/internal/ask"
)

// style is how parts of a text stand out.
type style struct{ bold, faint, bad func(string) string }

var (
	// plain is for what is no terminal.
	plain = style{same, same, same}
	// styled leaves colours to the terminal's own palette.
	styled = style{rendered(lipgloss.NewStyle().Bold(true)), rendered(lipgloss.NewStyle().Faint(true)),
		rendered(lipgloss.NewStyle().Foreground(lipgloss.Red))}
)

func same(s string) string { return s }

func rendered(s lipgloss.Style) func(string) string {
	return func(text string) string { return s.Render(text) }
}

// text is a look as lines, cut to a width; 0: not cut. What clients and services say of themselves is shown as harmless
// text.
func (l *look) text(width int, s style) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s, %s, %s  %s\n\n", s.bold("Herald"), count(len(l.Gateways), "gateway"),
		count(len(l.Ingests), "ingest"), count(len(l.Loggers), "logger"),
		s.faint(l.Time.Format(time.TimeOnly)))
	by := map[string]int{}
	for _, g := range l.Gateways {
		for protocol, n := range g.Answer.Connections {
			by[protocol] += n
		}
	}
	var protocols []string
	for _, protocol := range slices.Sorted(maps.Keys(by)) {
		if by[protocol] > 0 {
			protocols = append(protocols, fmt.Sprintf("%s %d", onOneLine(protocol), by[protocol]))
		}
	}
	for _, line := range [][2]string{
		{"Connections", strings.TrimSpace(figure(l.Connections, "%.0f") + "   " + strings.Join(protocols, "   "))},
		{"Delivered", figure(l.Deliveries, "%.1f/s") + "   published " + figure(l.Publishes, "%.1f/s") + "   refused " +
			figure(l.Refusals, "%.1f/s")},
		{"Latency", "p50 " + figure(l.P50, "%.1f ms") + "   p95 " + figure(l.P95, "%.1f ms") + "   p99 " +
			figure(l.P99, "%.1f ms")},
		{"Queued", figure(l.QueueBytes, "%.0f bytes") + " for " + figure(l.Slow, "%.0f") + " clients"},
		{"Log behind", figure(l.LogLag, "%.1f s")},
	} {
		fmt.Fprintf(&b, "%-12s %s\n", line[0], line[1])
	}
	b.WriteString("\n" + l.services(width))
	if len(l.clients) > 0 {
		b.WriteString("\n" + l.connections(width))
	}
	if l.nobody() && len(l.Silent) == 0 {
		fmt.Fprintf(&b, "\n%s\n", s.bad(errNobody.Error()))
	}
	for _, who := range slices.Compact(slices.Sorted(slices.Values(l.Silent))) {
		fmt.Fprintf(&b, "\n%s", s.bad(onOneLine(who)))
	}
	if len(l.Silent) > 0 {
		b.WriteByte('\n')
	}
	if width <= 0 {
		return b.String()
	}
	var cut strings.Builder
	for line := range strings.Lines(b.String()) {
		cut.WriteString(ansi.Truncate(strings.TrimSuffix(line, "\n"), width, "…") + "\n")
	}
	return cut.String()
}

// services is a table of who runs.
func (l *look) services(width int) string {
	var rows [][]string
	row := func(p ask.Process, clients string) {
		state := "ready"
		if !p.Ready {
			state = "not ready: " + strings.Join(p.Reasons, "; ")
		}
		rows = append(rows, []string{p.Service, p.Instance, p.Host, l.Time.Sub(p.Started).Round(time.Second).String(),
			clients, state})
	}
	for _, g := range l.Gateways {
		row(g.Answer.Process, fmt.Sprint(g.Answer.Clients()))
	}
	for _, i := range l.Ingests {
		row(i.Answer.Process, "-")
	}
	for _, g := range l.Loggers {
		row(g.Answer.Process, "-")
	}
	return table([]column{{"SERVICE", 0}, {"INSTANCE", 3}, {"HOST", 2}, {"UP", 1}, {"CLIENTS", 0}, {"STATE", 0}},
		rows, width)
}

// connections is a table of clients.
func (l *look) connections(width int) string {
	var rows [][]string
	for _, c := range l.clients {
		rows = append(rows, []string{c.ID, c.Address, cmp.Or(c.User, "-"), c.Protocol, fmt.Sprint(c.ChannelCount),
			fmt.Sprint(c.QueuedBytes), fmt.Sprint(c.SentMessages), l.Time.Sub(c.Since).Round(time.Second).String()})
	}
	return table([]column{{"CONNECTION", 5}, {"ADDRESS", 0}, {"USER", 1}, {"PROTOCOL", 4}, {"CHANNELS", 3},
		{"QUEUED", 0}, {"SENT", 0}, {"FOR", 2}}, rows, width)
}

// column is one of a table. Where the table is wider than the terminal, the columns with the highest spare go
// first; those with 0 stay.
type column struct {
	title string
	spare int
}

// table is rows below their titles, each cell on one line, with the columns that a width has room for; 0: all.
func table(columns []column, rows [][]string, width int) string {
	for {
		var b strings.Builder
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		line := func(cells []string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }
		titles := make([]string, len(columns))
		for i, c := range columns {
			titles[i] = c.title
		}
		line(titles)
		for _, row := range rows {
			cells := make([]string, len(row))
			for i := range row {
				cells[i] = onOneLine(row[i])
			}
			line(cells)
		}
		_ = w.Flush() // a strings.Builder takes everything
		least := 0
		for i, c := range columns {
			if c.spare > columns[least].spare {
				least = i
			}
		}
		if width <= 0 || columns[least].spare == 0 || lipgloss.Width(b.String()) <= width {
			return b.String()
		}
		columns = slices.Delete(slices.Clone(columns), least, least+1)
		for i := range rows {
			rows[i] = slices.Delete(slices.Clone(rows[i]), least, least+1)
		}
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// figure is a number for people; - is one that is not known.
func figure(v *float64, format string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

// fitted is the first lines of a text, with empty ones up to a height.
func fitted(text string, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if height <= 0 {
		return text
	}
	for len(lines) < height {
		lines = append(lines, "")
	}
	return strings.Join(lines[:height], "\n") + "\n"
}
