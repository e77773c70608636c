//go:build linux

package main

import (
	"cmp"
	"fmt"
	"go/constant"
	"go/token"
	"go/types"
	"maps"
	"math"
	"regexp"
	"strings"
)

// costs are the measured inputs of the worksheet by name: bytes, and seconds of CPU,
// the kernel's on behalf of a process included.
type costs map[string]float64

// line is a row of the tables. In that of inputs, text says what is measured; in the worksheet it is a formula,
// and the value has a name if later formulas use it.
type line struct {
	what, name, text string
	unit             unit
}

// inputs are what is measured, in the order of the table.
var inputs = []line{
	{"gateway: memory of an idle connection with two subscriptions, a minute after all have come, after garbage collection", "conn", "", bytesOf},
	{"… of that, heap and stacks in use", "live", "", bytesOf},
	{"… right after all have come", "rush", "", bytesOf},
	{"kernel: memory for the server's end of it", "kernel", "", bytesOf},
	{"gateway: memory without clients", "base", "", bytesOf},
	{"gateway: memory of each of the recent messages that it keeps", "recent", "", bytesOf},
	{"gateway: CPU of a client that connects and subscribes", "shake", "", micros},
	{"gateway: CPU of a client that only sits there, each second", "idle", "", micros},
	{"… a heartbeat, with its answer", "beat", "", micros},
	{"gateway: CPU of a message for each of many clients", "deliver", "", micros},
	{"gateway: CPU of a message for its only client", "single", "", micros},
	{"each gateway: CPU of a message, whether a client wants it or not", "receive", "", micros},
	{"NATS: CPU of a message", "store", "", micros},
	{"… of passing it to one gateway", "relay", "", micros},
	{"… its size, with data of 128 bytes", "wire", "", bytesOf},
	{"a client: size of the same as a frame", "frame", "", bytesOf},
}

// clusters are the columns: a million clients on pods as the manifests make them, the same on
// larger ones, and ten million. `pod` is the clients of one, `cores` its processors.
var clusters = []costs{
	{"clients": 1e6, "pod": 20_000, "cores": 2},
	{"clients": 1e6, "pod": 100_000, "cores": 4},
	{"clients": 1e7, "pod": 200_000, "cores": 8},
}

// sheet computes a cluster from the inputs, row by row. Constants are those of the manifests and the defaults:
// 65536 is HERALD_RECENT_MESSAGES, 30 s HERALD_DRAIN in deploy/31-gateway.yaml; 66 bytes are the headers of
// Ethernet, IPv4 and TCP with time stamps.
//
// Where the balancer chooses pods at random, a rolling restart moves clients more than once: a client may come to
// a pod whose turn is yet to come. Each pod in its turn spreads its clients over as many pods as there are, one of
// them new, so the last pod has (1 + 1/gateways) ^ (gateways − 1) times its share before its turn, and all turns
// move (1 + 1/gateways) ^ gateways − 1 times all clients. The formulas have e × (1 − 1/2n) for (1 + 1/n) ^ n.
var sheet = []line{
	{"clients of a pod", "", "pod", count},
	{"cores of a pod", "", "cores", count},
	{"gateways", "gateways", "clients / pod", count},
	{"memory for the connections", "connections", "clients × (conn + kernel)", bytesOf},
	{"memory of a gateway beside them", "fixed", "base + 65536 × recent", bytesOf},
	{"memory in all", "", "connections + gateways × fixed", bytesOf},
	{"request of a pod", "", "fixed + pod × (rush + kernel)", bytesOf},
	{"how often a rolling restart moves a client", "moves", "2.718 × (1 − 1/(2 × gateways)) − 1", times},
	{"clients of the fullest pod in a rolling restart", "fullest", "pod × (moves + 1) / (1 + 1/gateways)", count},
	{"its limit", "", "fixed + fullest × (rush + kernel)", bytesOf},
	{"handshakes of a rolling restart", "", "clients × moves × shake", seconds},
	{"… a second, while the fullest drains, 30 s", "draining", "fullest / 30", count},
	{"… and what they cost", "", "draining × shake", cores},
	{"heartbeats, each 25 s", "", "clients × idle", cores},
	{"a broadcast to all", "broadcast", "clients × deliver", seconds},
	{"… until the last client has it, if cores do nothing else", "", "pod × deliver / cores", seconds},
	{"… one a minute", "", "broadcast / 60", cores},
	{"… one a second", "", "broadcast / 1", cores},
	{"… of the cores of all gateways", "", "broadcast / (gateways × cores)", func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }},
	{"… network, one a second", "", "clients × (frame + 66)", func(v float64) string { return fmt.Sprintf("%.1f Gbit/s", v*8/1e9) }},
	{"1,000 messages a second, each to one client: gateways", "", "1000 × (gateways × receive + single)", cores},
	{"… NATS, CPU", "", "1000 × (store + gateways × relay)", cores},
	{"… NATS, network", "", "1000 × gateways × wire", func(v float64) string { return fmt.Sprintf("%.1f MB/s", v/1e6) }},
}

// compute fills one column: the values of all rows, and their names among the inputs.
func (c costs) compute(cluster costs) (column []float64, names costs) {
	names = costs{}
	for name, v := range c {
		names[name] = max(0, v) // what was too little to be measured costs nothing
	}
	maps.Copy(names, cluster)
	for _, l := range sheet {
		column = append(column, evaluate(l.text, names))
		names[l.name] = column[len(column)-1]
	}
	return column, names
}

// nameOrSign is what a formula has that Go's constants have not.
var nameOrSign = regexp.MustCompile("[a-z]+|×|−")

// evaluate computes a formula of numbers, names, + − × and /. It is NaN where a name is unknown or
// the text is no formula.
func evaluate(formula string, names costs) float64 {
	text := nameOrSign.ReplaceAllStringFunc(formula, func(name string) string {
		if v, ok := names[name]; ok {
			return fmt.Sprintf("(%e)", v)
		}
		return cmp.Or(map[string]string{"×": "*", "−": "-"}[name], "unknown")
	})
	v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, text)
	if err != nil || v.Value == nil {
		return math.NaN()
	}
	f, _ := constant.Float64Val(constant.ToFloat(v.Value)) // as near as there is
	return f
}

// inputs is the table of what was measured.
func (c costs) inputs() string {
	var t strings.Builder
	t.WriteString("| coefficient | of | measured |\n| --- | --- | --- |\n")
	for _, i := range inputs {
		fmt.Fprintf(&t, "| `%s` | %s | %s |\n", i.name, i.what, i.unit(c[i.name]))
	}
	return t.String()
}

// forecasts is the worksheet.
func (c costs) forecasts() string {
	var t strings.Builder
	t.WriteString("| | name | by |")
	var columns [][]float64
	for _, k := range clusters {
		fmt.Fprintf(&t, " %s clients |", thousands(int(k["clients"])))
		column, _ := c.compute(k)
		columns = append(columns, column)
	}
	t.WriteString("\n| --- | --- | --- |" + strings.Repeat(" --- |", len(clusters)) + "\n")
	for i, l := range sheet {
		fmt.Fprintf(&t, "| %s | %s | `%s` |", l.what, l.name, l.text)
		for _, column := range columns {
			fmt.Fprintf(&t, " %s |", l.unit(column[i]))
		}
		t.WriteString("\n")
	}
	return t.String()
}

func micros(v float64) string { return microseconds(v * 1e6) }

// bytesOf writes an amount of memory.
func bytesOf(v float64) string {
	switch size := math.Abs(v); {
	case size >= 1e9:
		return fmt.Sprintf("%.1f GB", v/1e9)
	case size >= 1e7:
		return fmt.Sprintf("%.0f MB", v/1e6)
	case size >= 1e6:
		return fmt.Sprintf("%.1f MB", v/1e6)
	case size >= 1e3:
		return kilobytes(v)
	}
	return fmt.Sprintf("%.0f bytes", v)
}

// cores writes CPU time per time.
func cores(v float64) string {
	switch {
	case v >= 9.95:
		return fmt.Sprintf("%.0f cores", v)
	case v >= 0.95:
		return fmt.Sprintf("%.1f cores", v)
	}
	return fmt.Sprintf("%.2g cores", v)
}
