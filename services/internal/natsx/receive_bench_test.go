//go:build unix

package natsx_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go"
)

// BenchmarkReceive compares the ways in which a gateway may listen: one
// subscription on herald.live.> with routing of its own, or one subscription
// per channel into one shared Go channel. Publisher, nats-server and receiver
// are all in this process and messages go round-robin over 10,000 channels
// through core NATS, without a stream. "none" has no receiver: what the others
// cost above it is the receiving and the server's delivery.
//
// ns/op is the time and cpu-ns/op the processor time (user and system, all
// threads) of one message. It asserts nothing but that every message arrives.
//
//	go test ./natsx -run '^$' -bench Receive -benchtime 2000000x -count 3
func BenchmarkReceive(b *testing.B) {
	const channels = 10_000
	subjects := make([]string, channels)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("herald.live.msg.user.%d", i)
	}
	body := []byte(`{"channel":"user.0","event":"message","data":"` + strings.Repeat("x", 32) +
		`","sender":"shop","time":"2026-11-22T16:58:36.123Z"}`)
	for _, c := range []struct {
		name string
		subs []string
	}{
		{"none", nil},
		{"one-wildcard", []string{"herald.live.>"}},
		{"10000-ChanSubscribe", subjects},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := natstest.Start(b)
			publisher, receiver := s.Connect(), s.Connect()
			const window = 1024 // published before they are waited for
			live := make(chan *nats.Msg, 2*window)
			for _, subject := range c.subs {
				if _, err := receiver.ChanSubscribe(subject, live); err != nil {
					b.Fatal(err)
				}
			}
			if err := receiver.Flush(); err != nil {
				b.Fatal(err)
			}
			stall := time.NewTimer(time.Minute)
			defer stall.Stop()
			begin := cpuTime(b)
			b.ResetTimer()
			for sent := 0; sent < b.N; {
				n := min(window, b.N-sent)
				for range n {
					if err := publisher.Publish(subjects[sent%channels], body); err != nil {
						b.Fatal(err)
					}
					sent++
				}
				if err := publisher.Flush(); err != nil {
					b.Fatal(err)
				}
				if c.subs == nil {
					continue
				}
				stall.Reset(30 * time.Second)
				for range n {
					select {
					case <-live:
					case <-stall.C:
						b.Fatal("a message did not arrive")
					}
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
