package natsd

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkSync is the price of -sync: 64 publishers, each waiting for its
// acknowledgement, as so many single POSTs do, and one that waits alone.
func BenchmarkSync(b *testing.B) {
	for _, bc := range []struct {
		name       string
		sync       time.Duration
		publishers int
	}{
		{"1s/64", time.Second, 64}, {"always/64", 0, 64}, {"1s/1", time.Second, 1}, {"always/1", 0, 1},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s, err := Start(Config{Dir: b.TempDir(), SyncInterval: bc.sync}, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Shutdown()
			nc, err := nats.Connect("", s.InProcess())
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			js, err := jetstream.New(nc)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "BENCH",
				Subjects: []string{"bench"}}); err != nil {
				b.Fatal(err)
			}
			body := make([]byte, 200)
			work := make(chan struct{}, b.N)
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range bc.publishers {
				wg.Go(func() {
					for range work {
						if _, err := js.Publish(context.Background(), "bench", body); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}
