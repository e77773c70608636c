//go:build linux

package main

import (
	"fmt"
	"math"
	"strings"
)

// costs are the coefficients of the model, as measured: bytes, and seconds of CPU,
// the kernel's on behalf of a process included.
type costs struct {
	conn    float64 // of a gateway for an idle connection, after garbage collection
	live    float64 // of that, heap and stacks in use
	rush    float64 // the same as conn right after all have come
	kernel  float64 // of the kernel for the server's end of it
	base    float64 // of a gateway without clients
	recent  float64 // of a gateway for each message that it keeps
	wire    float64 // a message from NATS to a gateway
	frame   float64 // a message from a gateway to a client
	shake   float64 // of a gateway for a client that connects and subscribes
	idle    float64 // of a gateway for a client that only sits there, each second
	beat    float64 // the same for each heartbeat
	deliver float64 // of a gateway for one of many clients that get the same message
	single  float64 // of a gateway for the one client that gets a message
	receive float64 // of each gateway for a message, whether a client of its own wants it or not
	store   float64 // of NATS for a message
	relay   float64 // of NATS for passing it to one gateway
}

// positive is what the model uses: what was too little to be measured costs nothing.
func (c costs) positive() costs {
	for _, v := range []*float64{&c.conn, &c.live, &c.rush, &c.kernel, &c.base, &c.recent, &c.wire, &c.frame, &c.shake, &c.idle, &c.beat, &c.deliver, &c.single, &c.receive, &c.store, &c.relay} {
		*v = max(0, *v)
	}
	return c
}

// What the manifests and defaults say, and what the example assumes.
const (
	recentMessages = 65_536 // HERALD_RECENT_MESSAGES
	drainSeconds   = 30     // HERALD_DRAIN in deploy/31-gateway.yaml
	streamRate     = 1000   // messages a second, each to one client
	headerBytes    = 66     // of Ethernet, IPv4 and TCP with time stamps: 14 + 20 + 32
)

// cluster is a number of clients, and gateways for them.
type cluster struct{ clients, perPod, cores int }

func (c cluster) pods() int { return (c.clients + c.perPod - 1) / c.perPod }

// clusters are the examples: a million on pods as the manifests make them, the same on
// larger ones, and ten million.
var clusters = []cluster{{1_000_000, 20_000, 2}, {1_000_000, 100_000, 4}, {10_000_000, 200_000, 8}}

// moves is how many times a rolling restart moves a client, where the balancer
// chooses pods at random: it may come to one whose turn is yet to be. One pod
// after the other goes and spreads its clients over as many as there are, one of
// them new.
func (c cluster) moves() float64 { p := float64(c.pods()); return math.Pow(1+1/p, p) - 1 }

// fullest is how many clients the last pod has before its turn.
func (c cluster) fullest() float64 {
	p := float64(c.pods())
	return float64(c.perPod) * math.Pow(1+1/p, p-1)
}

// forecast is one line of the model.
type forecast struct {
	what, formula string
	of            func(c costs, k cluster) string
}

// model is linear in what was measured.
var model = []forecast{
	{"gateways", "", func(_ costs, k cluster) string {
		return fmt.Sprintf("%d with %s clients and %d cores each", k.pods(), thousands(k.perPod), k.cores)
	}},
	{"memory for the connections", "clients × (`conn` + `kernel`)", func(c costs, k cluster) string {
		return bytesOf(float64(k.clients) * (c.conn + c.kernel))
	}},
	{"memory beside them", "gateways × (`base` + 65,536 × `recent`)", func(c costs, k cluster) string {
		return bytesOf(float64(k.pods()) * k.fixed(c))
	}},
	{"memory in all", "the sum", func(c costs, k cluster) string {
		return bytesOf(float64(k.clients)*(c.conn+c.kernel) + float64(k.pods())*k.fixed(c))
	}},
	{"request of a pod", "`base` + 65,536 × `recent` + its clients × (`rush` + `kernel`)", func(c costs, k cluster) string {
		return bytesOf(k.fixed(c) + float64(k.perPod)*(c.rush+c.kernel))
	}},
	{"clients of the fullest pod in a rolling restart", "clients of a pod × (1 + 1/gateways)^(gateways − 1)", func(_ costs, k cluster) string {
		return thousands(int(math.Round(k.fullest()/1000)) * 1000)
	}},
	{"its limit", "`base` + 65,536 × `recent` + those clients × (`rush` + `kernel`)", func(c costs, k cluster) string {
		return bytesOf(k.fixed(c) + k.fullest()*(c.rush+c.kernel))
	}},
	{"handshakes of a rolling restart", "clients × ((1 + 1/gateways)^gateways − 1) × `shake`", func(c costs, k cluster) string {
		return coreSeconds(float64(k.clients) * k.moves() * c.shake)
	}},
	{"… while the fullest drains, 30 s", "its clients / 30 s × `shake`", func(c costs, k cluster) string {
		return fmt.Sprintf("%s/s, %s", thousands(int(k.fullest()/drainSeconds)), cores(k.fullest()/drainSeconds*c.shake))
	}},
	{"heartbeats, each 25 s", "clients × `idle`", func(c costs, k cluster) string { return cores(float64(k.clients) * c.idle) }},
	{"a broadcast to all", "clients × `deliver`", func(c costs, k cluster) string { return coreSeconds(float64(k.clients) * c.deliver) }},
	{"… until the last client has it, if cores do nothing else", "clients of a pod × `deliver` / its cores", func(c costs, k cluster) string {
		return fmt.Sprintf("%.2f s", float64(k.perPod)*c.deliver/float64(k.cores))
	}},
	{"… one a minute", "/ 60 s", func(c costs, k cluster) string { return cores(float64(k.clients) * c.deliver / 60) }},
	{"… one a second", "/ 1 s", func(c costs, k cluster) string { return k.share(float64(k.clients) * c.deliver) }},
	{"… network, one a second", "clients × (`frame` + 66) / 1 s", func(c costs, k cluster) string {
		return fmt.Sprintf("%.1f Gbit/s", float64(k.clients)*(c.frame+headerBytes)*8/1e9)
	}},
	{"1,000 messages a second, each to one client: gateways", "1,000/s × (gateways × `receive` + `single`)", func(c costs, k cluster) string {
		return cores(streamRate * (float64(k.pods())*c.receive + c.single))
	}},
	{"… NATS, CPU", "1,000/s × (`store` + gateways × `relay`)", func(c costs, k cluster) string {
		return cores(streamRate * (c.store + float64(k.pods())*c.relay))
	}},
	{"… NATS, network", "1,000/s × gateways × `wire`", func(c costs, k cluster) string {
		return fmt.Sprintf("%.1f MB/s", streamRate*float64(k.pods())*c.wire/1e6)
	}},
}

// fixed is the memory of a gateway that no client causes.
func (cluster) fixed(c costs) float64 { return c.base + recentMessages*c.recent }

// share says how much of all gateways' cores that is.
func (k cluster) share(used float64) string {
	return fmt.Sprintf("%s of %d", cores(used), k.pods()*k.cores)
}

// forecasts is the table of the model.
func (c costs) forecasts() string {
	var b strings.Builder
	b.WriteString("| | by |")
	for _, k := range clusters {
		fmt.Fprintf(&b, " %s clients |", thousands(k.clients))
	}
	b.WriteString("\n| --- | --- |" + strings.Repeat(" --- |", len(clusters)) + "\n")
	for _, f := range model {
		fmt.Fprintf(&b, "| %s | %s |", f.what, f.formula)
		for _, k := range clusters {
			fmt.Fprintf(&b, " %s |", f.of(c.positive(), k))
		}
		b.WriteString("\n")
	}
	return b.String()
}

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
	case v >= 0.095:
		return fmt.Sprintf("%.1f cores", v)
	}
	return fmt.Sprintf("%.3f cores", v)
}

// coreSeconds writes CPU time.
func coreSeconds(v float64) string {
	if v >= 9.95 {
		return fmt.Sprintf("%.0f s of CPU", v)
	}
	return fmt.Sprintf("%.1f s of CPU", v)
}
