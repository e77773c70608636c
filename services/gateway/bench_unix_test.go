//go:build unix

package gateway

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
)

// cpu is what this process has used of the processors, in seconds.
func cpu(b *testing.B) (user, system float64) {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano()).Seconds(), time.Duration(u.Stime.Nano()).Seconds()
}

// One operation is one message of 128 bytes, published, stored, and delivered
// to 1,000 clients: "paced" one every 10 ms, "bursts" five every 50 ms; "pusher" and
// "socketio" as paced, to clients of those protocols.
// Reported is what this process, NATS included, uses for a million deliveries.
func BenchmarkFanout(b *testing.B) {
	const clients = 1000
	data := fmt.Sprintf("%q", bytes.Repeat([]byte("x"), 30)) // with the envelope 128 to 140 bytes
	for _, c := range []struct {
		name  string
		burst int
		pause time.Duration
		path  string
	}{{"paced", 1, 10 * time.Millisecond, "/ws"}, {"bursts", 5, 50 * time.Millisecond, "/ws"},
		{"pusher", 1, 10 * time.Millisecond, shopPath}, {"socketio", 1, 10 * time.Millisecond, socketPath}} {
		b.Run(c.name, func(b *testing.B) {
			br, g, _ := shopGateway(b)
			channel := map[bool]string{true: "pusher.3.orders", false: "broadcast"}[c.path == shopPath]
			natstest.Eventually(b, patience, "Socket.IO clients are served",
				func() bool { return g.pids.Load() != nil })
			read := g.bringTo(c.path, clients)
			// Nobody reads the acknowledgements: the messages come in order, so the last one tells of all.
			acks := br.js.Conn().NewInbox()
			user, system := cpu(b)
			pace := time.NewTicker(c.pause)
			defer pace.Stop()
			n := 0
			for b.Loop() {
				if n++; n%c.burst == 0 {
					<-pace.C
				}
				msg := message(channel, data)
				msg.Reply = acks
				if err := br.js.Conn().PublishMsg(msg); err != nil {
					b.Fatal(err)
				}
			}
			br.publish(channel, `"the end"`)
			read("done")
			u, s := cpu(b)
			millions := float64(n+1) * clients / 1e6
			b.ReportMetric((u-user+s-system)/millions, "cpu-s/1M")
			b.ReportMetric((u-user)/millions, "user-s/1M")
		})
	}
}

// BenchmarkOpenConsole compares what this process, NATS and the console's questions included, uses for deliveries to
// 1,000 clients, among 15,000 connections, with a console open and without: the overview every 2 s, a page of
// connections every 3 s, and facts of deliveries kept for a tail. One operation is 3 s of each, in turn; reported is
// the median of the rounds.
func BenchmarkOpenConsole(b *testing.B) {
	const clients, idle, segment = 1000, 14_000, 3 * time.Second
	data := fmt.Sprintf("%q", bytes.Repeat([]byte("x"), 30))
	br := newBroker(b)
	g, c := br.gateway(func(c *Config) { c.MaxPerIP = 0 }), br.asker()
	g.load(idle)
	told[ask.GatewayStats](g, c, ask.Stats, nil)
	g.bringTo("/ws", clients)
	acks := br.js.Conn().NewInbox() // nobody listens
	use := func(open bool) float64 {
		if !open {
			g.answers.watch.Off()
		}
		runtime.GC()
		user, system := cpu(b)
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		n := 0
		for begin := time.Now(); time.Since(begin) < segment; n++ {
			<-pace.C
			if open && n%200 == 0 {
				told[ask.GatewayStats](g, c, ask.Stats, nil)
				told[ask.GatewayPath](g, c, ask.MessagePath, ask.PathQuestion{})
			}
			if open && n%300 == 0 {
				told[ask.ConnectionsPage](g, c, ask.Connections, ask.ConnectionsQuestion{Sort: "-since"})
			}
			msg := message("broadcast", data)
			msg.Reply = acks
			if err := br.js.Conn().PublishMsg(msg); err != nil {
				b.Fatal(err)
			}
		}
		g.reached(br.publish("broadcast", "0"))
		u, s := cpu(b)
		return (u - user + s - system) / float64(n+1)
	}
	use(true)
	use(false)
	var ratios []float64
	for b.Loop() {
		with, without := use(true), use(false)
		ratios = append(ratios, with/without)
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "with/without")
	b.ReportMetric(ratios[0], "lowest")
	b.ReportMetric(ratios[len(ratios)-1], "highest")
}
