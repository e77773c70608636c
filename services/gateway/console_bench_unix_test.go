//go:build unix

package gateway

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/natstest"
)

// BenchmarkConsole100kOverGateways is how long a page of the console takes with a hundred
// thousand connections over four gateways: every gateway looks at its own, the pages travel
// over NATS and are merged. Reported are the median, and the CPU of all of them, NATS and
// the console together, which other programs on the machine do not change.
func BenchmarkConsole100kOverGateways(b *testing.B) {
	const gateways, each = 4, 25_000
	br := newBroker(b)
	c := br.asker()
	for range gateways {
		g := br.gateway()
		g.load(each)
		told[ask.GatewayStats](g, c, ask.Stats, nil)
	}
	page := func(b *testing.B, q ask.ConnectionsQuestion) (rows []ask.Connection, next string) {
		answers, silent, err := ask.All[ask.ConnectionsPage](b.Context(), c, ask.Gateway, ask.Connections, q)
		if err != nil || len(silent) > 0 || len(answers) != gateways {
			b.Fatalf("%d answers, silent %v, %v", len(answers), silent, err)
		}
		order, err := ask.ParseOrder(q.Sort, ask.ConnectionOrders...)
		if err != nil {
			b.Fatal(err)
		}
		parts := make([]ask.Part[ask.Connection], len(answers))
		for i, a := range answers {
			parts[i] = ask.Part[ask.Connection]{Rows: a.Answer.Rows, More: a.Answer.Next != ""}
		}
		key := func(row *ask.Connection) ask.Key { return row.Key(order.By) }
		return ask.Merge(order, ask.DefaultLimit, key, parts)
	}
	natstest.Eventually(b, patience, "every gateway answers", func() bool {
		answers, silent, err := ask.All[ask.GatewayStats](b.Context(), c, ask.Gateway, ask.Stats, nil)
		return err == nil && len(silent) == 0 && len(answers) == gateways
	})
	_, second := page(b, ask.ConnectionsQuestion{Sort: "-sent"})
	for _, question := range []struct {
		name string
		ask.ConnectionsQuestion
		rows int
	}{
		{"first", ask.ConnectionsQuestion{Sort: "-since"}, ask.DefaultLimit},
		{"queue", ask.ConnectionsQuestion{Sort: "-queued"}, ask.DefaultLimit},
		{"bytes", ask.ConnectionsQuestion{Sort: "-sent"}, ask.DefaultLimit},
		{"second", ask.ConnectionsQuestion{Sort: "-sent", Cursor: second}, ask.DefaultLimit},
		{"address", ask.ConnectionsQuestion{Sort: "address"}, ask.DefaultLimit},
		{"user", ask.ConnectionsQuestion{User: "user-7777"}, gateways},
		{"text", ask.ConnectionsQuestion{Text: "user.7777"}, gateways},
	} {
		b.Run(question.name, func(b *testing.B) {
			var took []time.Duration
			user, system := cpu(b)
			for b.Loop() {
				begin := time.Now()
				if rows, _ := page(b, question.ConnectionsQuestion); len(rows) != question.rows {
					b.Fatalf("%d rows, want %d", len(rows), question.rows)
				}
				took = append(took, time.Since(begin))
			}
			u, s := cpu(b)
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/float64(time.Millisecond), "median-ms")
			b.ReportMetric((u-user+s-system)*1000/float64(len(took)), "cpu-ms/page")
		})
	}
}

// BenchmarkConsolePolls is the CPU that one answer to an open page takes at a gateway with
// 25,000 connections that has nothing else to do, with the NATS server and whoever asks in
// the same process: an upper bound. Asked as often as pages ask, that is a share of one
// core, which is reported, too.
func BenchmarkConsolePolls(b *testing.B) {
	br := newBroker(b)
	g, c := br.gateway(), br.asker()
	g.load(25_000)
	told[ask.GatewayStats](g, c, ask.Stats, nil)
	for _, poll := range []struct {
		name  string
		every time.Duration // of the page that asks
		ask   func()
	}{
		{"overview", 2 * time.Second, func() { told[ask.GatewayStats](g, c, ask.Stats, nil) }},
		{"connections", 3 * time.Second, func() {
			told[ask.ConnectionsPage](g, c, ask.Connections, ask.ConnectionsQuestion{Sort: "-queued"})
		}},
		{"channels", 3 * time.Second, func() { told[ask.TallyPage](g, c, ask.Channels, nil) }},
		{"tail", 10 * time.Second, func() {
			told[ask.GatewayPath](g, c, ask.MessagePath, ask.PathQuestion{})
			g.answers.watch.Off() // nothing is delivered, so that facts would cost nothing
		}},
	} {
		b.Run(poll.name, func(b *testing.B) {
			const rounds = 9
			var used []float64
			for b.Loop() {
				used = used[:0]
				for range rounds {
					runtime.GC()
					user, system := cpu(b)
					const polls = 20
					for range polls {
						poll.ask()
					}
					u, s := cpu(b)
					used = append(used, (u-user+s-system)/polls)
				}
			}
			slices.Sort(used)
			b.ReportMetric(used[len(used)/2]*1000, "cpu-ms/poll")
			b.ReportMetric(used[len(used)/2]/poll.every.Seconds()*100, "%core")
		})
	}
}
