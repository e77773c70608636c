//go:build linux

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/herald-push/herald/proto"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/procfs"
)

// loadPerSecond is the pace of the load: so slow that each message is handled by itself. At a higher one several share
// a pack and a wake-up, and each costs less.
const loadPerSecond = 2000

// machineAllows is of how many connections this machine can hold both ends, and what limits them.
func machineAllows() (most int, reason string, err error) {
	const bytesOfBoth = 24 << 10 // memory of both ends at most, in both processes, with the garbage of the handshakes
	fs, err1 := procfs.NewDefaultFS()
	memory, err2 := fs.Meminfo()
	if err := errors.Join(err1, err2); err != nil {
		return 0, "", err
	}
	available := *memory.MemAvailableBytes
	most = int(available / bytesOfBoth)
	// An error says that connections are not tracked.
	if tracked, err := fs.SysctlInts("net.netfilter.nf_conntrack_max"); err == nil && tracked[0]-1000 < most {
		return tracked[0] - 1000, fmt.Sprintf("nf_conntrack_max of %d", tracked[0]), nil
	}
	return most, fmt.Sprintf("%d MB of free memory", available>>20), nil
}

// scale is one run of bench scale.
type scale struct {
	*bench
	*system
	servers []*server // the gateways
	crowd   *crowd
	n       float64   // clients
	costs   costs     // what was measured, for the worksheet
	last    []float64 // seconds until the last client has a broadcast
}

// measure connects the clients and measures what they cost. It fails unless each client receives each message exactly
// once.
func (s *scale) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.budget, fmt.Errorf("the run is not done after %s", s.budget))
	defer cancel()
	most, reason, err := machineAllows()
	if err != nil {
		return err
	}
	if s.clients == 0 || most < s.clients {
		fmt.Fprintf(s.log, "%d connections, since this machine has %s\n", most, reason)
		s.clients = most
	}
	s.crowd, s.n = &crowd{n: s.clients}, float64(s.clients)
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"binaries", s.open},
		{"messages without gateways", s.storing},
		{"messages that no client wants", s.receiving},
		{"connections", s.connecting},
		{"broadcasts", s.broadcasting},
		{"messages to one client each", s.addressing},
	} {
		begin := time.Now()
		if err := step.do(ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx) // err is a consequence of it
			}
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Fprintf(s.log, "%s: %.1f s\n", step.what, time.Since(begin).Seconds())
	}
	return nil
}

// spend is what NATS and all gateways spend during do; nats is the first of each.
func (s *scale) spend(do func() error) (used spent, gateways float64, err error) {
	of := []*process{s.nats.process}
	for _, v := range s.servers {
		of = append(of, v.process)
	}
	used, err = cost(do, of...)
	return used, used.sum - used.each[0].sum, err
}

// weigh is the memory of all gateways, and the kernel's slabs: sockets, their files and their entries in an epoll; not
// what waits in them.
func (s *scale) weigh(ctx context.Context) (sum memory, kernel float64, err error) {
	for _, v := range s.servers {
		m, e := v.weigh(ctx, s.settle)
		sum, err = memory{resident: sum.resident + m.resident, live: sum.live + m.live}, errors.Join(err, e)
	}
	fs, e1 := procfs.NewDefaultFS()
	machine, e2 := fs.Meminfo()
	if err := errors.Join(err, e1, e2); err != nil {
		return sum, 0, err
	}
	return sum, float64(*machine.SlabBytes), nil
}

// unwanted publishes messages that no client wants, each by itself.
func (s *scale) unwanted(ctx context.Context) (nats, gateways float64, err error) {
	l := load{messages: s.load, perSecond: loadPerSecond, channel: func(int) string { return "public.nobody" }}
	used, gateways, err := s.spend(func() error { _, err := s.publish(ctx, l); return err })
	return used.sum - gateways, gateways, err
}

// storing measures what NATS does with a message that no gateway receives, and the size of the message.
func (s *scale) storing(ctx context.Context) (err error) {
	if s.system, err = s.startBroker(ctx, "2m"); err != nil {
		return err
	}
	store, _, err1 := s.unwanted(ctx)
	nc, err2 := nats.Connect(s.natsURL)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	defer nc.Close()
	sub, err1 := nc.SubscribeSync(proto.SubjectLivePacks)
	err2 = nc.Flush()
	_, err3 := s.publish(ctx, to(everybody, 1))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	m, err := sub.NextMsg(30 * time.Second)
	if err == nil {
		s.costs["store"], s.costs["wire"] = store/float64(s.load), float64(m.Size())
	}
	return err
}

// receiving measures what a message costs that goes to all gateways and to no client.
func (s *scale) receiving(ctx context.Context) error {
	files := socketsOfAProcess()
	if s.gateways == 0 {
		s.gateways = max(2, (s.clients+files-1)/files)
	}
	for range s.gateways {
		a, err := freeAddresses(2)
		if err != nil {
			return err
		}
		p := s.gateway(setup{Listen: a[0], NATS: s.natsURL}, a[1], "-heartbeat", s.heartbeat.String())
		v, err := s.launch(ctx, p, a[0], "http://"+a[1], "http://"+a[0]+"/readyz")
		if err != nil {
			return err
		}
		s.servers = append(s.servers, v)
	}
	before, _, err1 := s.weigh(ctx)
	nats, received, err2 := s.unwanted(ctx)
	after, _, err3 := s.weigh(ctx)
	each := float64(s.load * s.gateways)
	s.costs["base"] = before.resident / float64(s.gateways)
	s.costs["recent"] = (after.live - before.live) / each
	s.costs["relay"] = (nats - s.costs["store"]*float64(s.load)) / each
	s.costs["receive"] = received / each
	return errors.Join(err1, err2, err3, pause(ctx, s.rest))
}

// first is the number of the first client of a gateway.
func (s *scale) first(gateway int) int { return s.clients * gateway / s.gateways }

// connecting connects all clients at once, each with an address of its own, to the channel that all follow and one of
// its own. Then nothing but heartbeats happens, and the runtime gives back the garbage of handshakes, at its own pace.
func (s *scale) connecting(ctx context.Context) error {
	for i, v := range s.servers {
		some, err := s.startClients(group{dialect: native, Channel: everybody + "&channel=" + ownChannel, Share: 1,
			First: s.first(i), N: s.first(i+1) - s.first(i), Addr: v.addr, PerAddress: 1})
		if err != nil {
			return err
		}
		s.crowd.parts = append(s.crowd.parts, some.parts...)
	}
	without, kernelWithout, err1 := s.weigh(ctx)
	_, came, err2 := s.spend(func() error { return s.crowd.connect(ctx, "") })
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	rush := 0.
	for _, v := range s.servers {
		resident, e := rssOf(v.pid())
		rush, err1 = rush+resident, errors.Join(err1, e)
	}
	before, err2 := s.crowd.call(ctx, "Count", "")
	used, idle, err3 := s.spend(func() error { return pause(ctx, s.window) })
	after, err4 := s.crowd.call(ctx, "Count", "")
	with, kernel, err5 := s.weigh(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	pings := float64(after.Pings - before.Pings)
	if after.Connected != s.clients || pings < s.n {
		return fmt.Errorf("%d of %.0f clients are still there, and %.0f pings came within %s, want one for each",
			after.Connected, s.n, pings, s.window)
	}
	maps.Copy(s.costs, costs{
		"shake":  came / s.n,
		"rush":   (rush - without.resident) / s.n,
		"idle":   idle / used.took / s.n,
		"beat":   idle / pings,
		"conn":   (with.resident - without.resident) / s.n,
		"live":   (with.live - without.live) / s.n,
		"kernel": (kernel - kernelWithout) / s.n / 2, // both ends of a connection are on this machine
	})
	return nil
}

// broadcasting sends one message after the other to all, after one that is not measured. Each client must receive each
// once.
func (s *scale) broadcasting(ctx context.Context) error {
	for i := range s.broadcasts + 1 {
		var got Tally
		used, gateways, err := s.spend(func() (err error) {
			got, err = s.crowd.receive(ctx, s.target, to(everybody, 1), 1)
			return err
		})
		if err != nil {
			return err
		}
		if i > 0 {
			s.costs["deliver"] += max(0, gateways-s.costs["idle"]*s.n*used.took) / s.n / float64(s.broadcasts)
			s.costs["frame"] = float64(got.Frame)
			s.last = append(s.last, got.Latency.percentile(1))
		}
	}
	return nil
}

// addressing sends messages to clients of one gateway, at most one to each: what it spends more than the others do in
// the same time is what a message costs that has a client.
func (s *scale) addressing(ctx context.Context) error {
	messages := min(s.load, s.first(1))
	channel := func(i int) string { return fmt.Sprintf("public.u%05d", i*(s.first(1)/messages)) }
	l := load{messages: messages, perSecond: loadPerSecond, channel: channel}
	if _, err := s.crowd.call(ctx, "Reset", ""); err != nil {
		return err
	}
	var got Tally
	used, gateways, err := s.spend(func() (err error) {
		if _, err := s.publish(ctx, l); err != nil {
			return err
		}
		got, err = s.crowd.until(ctx, deliveryTimeout, func(t *Tally) bool { return t.Messages >= int64(messages) })
		return err
	})
	if err == nil && got.Messages != int64(messages) {
		err = fmt.Errorf("of %d messages to one client each %d came", messages, got.Messages)
	}
	its := used.each[1].sum
	s.costs["single"] = (its - (gateways-its)/float64(s.gateways-1)) / float64(messages)
	return err
}

// markdown is both tables and what must be known about them.
func (s *scale) markdown() string {
	worksheet, _ := s.costs.forecast(clusters...)
	format, tables, _ := strings.Cut(worksheet, "\n")
	return fmt.Sprintf(format,
		s.clients, time.Now().UTC().Format(time.DateOnly), count(s.n), s.gateways, len(s.crowd.parts),
		machine(), median(s.last), 100*s.result.foreign) + "\n" + tables
}

// costs are values of the worksheet by name: bytes, and seconds of CPU, the kernel's on behalf of a process included.
type costs map[string]float64

// sheet is the worksheet: what must be known about the run, as a format; a table of what is measured, and one of
// formulas, with units in place of figures. Its constants are those of the manifests and the defaults: 65536 is
// HERALD_RECENT_MESSAGES, 30 s HERALD_DRAIN in deploy/31-gateway.yaml; 66 bytes are the headers of Ethernet, IPv4 and
// TCP with time stamps.
//
// Where the balancer chooses pods at random, a rolling restart moves clients more than once: a client may come to a pod
// whose turn is yet to come. Each pod in its turn spreads its clients over as many pods as there are, one of them new,
// so the last pod has (1 + 1/gateways) ^ (gateways − 1) times its share before its turn, and all turns move (1 +
// 1/gateways) ^ gateways − 1 times all clients. The formulas have e × (1 − 1/2n) for (1 + 1/n) ^ n.
//
//go:embed sheet.md
var sheet string

// clusters are the columns: a million clients on pods as the manifests make them, the same on larger ones, and ten
// million. `pod` is the clients of one, `cores` its processors.
var clusters = []costs{
	{"clients": 1e6, "pod": 20_000, "cores": 2},
	{"clients": 1e6, "pod": 100_000, "cores": 4},
	{"clients": 1e7, "pod": 200_000, "cores": 8},
}

// units write the figures of the worksheet.
var units = map[string]unit{"bytes": bytesOf, "count": count, "s": seconds, "×": times,
	"µs":      func(v float64) string { return microseconds(v * 1e6) },
	"%":       func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) },
	"cores":   func(v float64) string { return fmt.Sprintf("%.1f cores", v) },
	"bit/s":   func(v float64) string { return fmt.Sprintf("%.1f Gbit/s", v*8/1e9) },
	"bytes/s": func(v float64) string { return fmt.Sprintf("%.1f MB/s", v/1e6) },
}

// bytesOf writes an amount of memory.
func bytesOf(v float64) string {
	for _, format := range []string{"%.0f bytes", "%.1f KB", "%.1f MB"} {
		if math.Abs(v) < 1000 {
			return fmt.Sprintf(format, v)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.1f GB", v)
}

// forecast is the worksheet with figures in place of units: of what was measured, and of each formula for each cluster.
// values has, for each cluster, the inputs and the value of every formula by its row and its name. What was too little
// to be measured costs nothing there.
func (c costs) forecast(clusters ...costs) (text string, values []costs) {
	for _, k := range clusters {
		v := maps.Clone(k)
		for name, cost := range c {
			v[name] = max(0, cost)
		}
		values = append(values, v)
	}
	for line := range strings.Lines(sheet) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		last := len(cells) - 1
		write := units[cells[last]]
		switch {
		case write == nil: // words, or the head of a table
			text += line
			continue
		case last == 2: // name, what it is, unit
			cells[last] = write(c[strings.Trim(cells[0], "`")])
		default: // what it is, name, formula, unit
			cells = cells[:last]
			for _, v := range values {
				result := evaluate(strings.Trim(cells[2], "`"), v)
				v[cells[0]], v[cells[1]] = result, result
				cells = append(cells, write(result))
			}
		}
		text += "| " + strings.Join(cells, " | ") + " |\n"
	}
	return text, values
}

// evaluate computes a formula of names, numbers, + − × and /. It is NaN where a name is unknown or the text is no
// formula.
func evaluate(formula string, names costs) float64 {
	env := map[string]any{} // in a map of numbers an unknown name would be 0
	for name, v := range names {
		env[name] = v
	}
	v, err := expr.Eval(strings.NewReplacer("×", "*", "−", "-").Replace(formula), env)
	if f, ok := v.(float64); ok && err == nil {
		return f
	}
	return math.NaN()
}
