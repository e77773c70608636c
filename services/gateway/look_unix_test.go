//go:build unix

package gateway

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/hub"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkLook is what a gateway does with messages of a pack that nobody here
// follows, from the NATS message on: read, keep for those who come back, and pass
// over. One operation is one message; msgs/cpu-s is how many a processor looks at in a
// second that it spends on it, whatever else the machine does meanwhile.
func BenchmarkLook(b *testing.B) {
	const each = 64
	var p proto.Pack
	for i := range each {
		p.Add(&proto.Message{Channel: fmt.Sprintf("user.%d", i), Event: "message", Data: fmt.Appendf(nil, "1%0119d", i),
			Sender: "bench", Time: "2026-11-22T16:58:36.123Z"},
			proto.Private{Accepted: time.Now(), Source: "192.0.2.1"})
	}
	msg := &nats.Msg{Subject: proto.SubjectPacks, Data: p.Body()}
	h := hub.New(hub.Config{Shards: runtime.GOMAXPROCS(0), InboxMessages: liveBuffer, RecentMessages: 65536,
		RecentBytes: 64 << 20}, nil)
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	f := newFeed(nil, nil, h, natstest.Log(b), newMetrics(prometheus.NewRegistry()), nil, "bench")
	f.begin(natsx.StateOf(&jetstream.StreamInfo{Created: time.Now()}), false)
	begin := f.at
	b.ReportAllocs()
	user, system := cpu(b)
	for i := 0; b.Loop(); i++ {
		if i%each != 0 {
			continue
		}
		pack, err := natsx.OpenPack(msg)
		if err != nil {
			b.Fatal(err)
		}
		begin++
		pack.Seq = begin
		f.publish(&pack, "live")
	}
	b.StopTimer()
	stop()
	running.Wait()
	u, s := cpu(b)
	b.ReportMetric(float64(b.N)/(u-user+s-system), "msgs/cpu-s")
}
