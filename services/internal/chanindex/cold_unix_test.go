//go:build unix

package chanindex

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
)

// coldEnv is how many messages BenchmarkColdRead fills the stream with; 5,000,000
// are 1 GiB.
const coldEnv = "HERALD_BENCH_COLD"

// BenchmarkColdRead reads the ten messages of one quiet channel out of a stream
// that others have filled, as a resume or a page of history does: what comes from
// NATS, CPU of reader and server, time. The index is built anew first, as in a
// process that has just started.
func BenchmarkColdRead(b *testing.B) {
	messages := 200_000
	if n, err := strconv.Atoi(os.Getenv(coldEnv)); err == nil {
		messages = n
	}
	const channels, each = 100_000, 50
	s := natstest.Start(b)
	nc := s.Connect()
	js, _ := s.Stream(nc)
	stream, err := js.Stream(b.Context(), proto.Stream)
	if err == nil {
		c := stream.CachedInfo().Config
		c.MaxBytes = 4 << 30
		_, err = js.UpdateStream(b.Context(), c)
	}
	if err != nil {
		b.Fatal(err)
	}
	data := fmt.Appendf(nil, "%0120d", 0)
	data[0] = '1'
	n := 0
	_, err = natstest.Publish(nc, func(yield func(*nats.Msg) bool) {
		for n < messages {
			var p proto.Pack
			for range each {
				channel := fmt.Sprintf("user.%d", n*7919%channels)
				if n%(messages/10) == messages/20 {
					channel = "quiet.one"
				}
				n++
				p.Add(&proto.Message{Channel: channel, Event: "message", Data: data, Sender: "bench",
					Time: "2026-11-22T16:58:36.123Z"}, proto.Private{Accepted: time.Now()})
			}
			if !yield(&nats.Msg{Subject: proto.SubjectPacks, Data: p.Body(),
				Header: nats.Header{proto.HeaderChannels: {string(p.AppendChannels(nil))}}}) {
				return
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	x := New()
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan struct{})
	own := s.Connect()
	begin, cpu := time.Now(), cpuTime(b)
	go func() { defer close(ended); x.Run(ctx, own, natstest.Log(b)) }()
	defer func() { stop(); <-ended }()
	<-x.complete
	b.Logf("index of %d messages: built in %s with %s of CPU, server included, from %d KB of headers; %.1f MB",
		n, time.Since(begin).Round(time.Millisecond), (cpuTime(b) - cpu).Round(time.Millisecond),
		own.Stats().InBytes>>10, float64(x.Bytes())/1e6)
	reader := natsx.NewReader(nc, x)
	state, err := reader.State(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	before, cpu := nc.Stats().InBytes, cpuTime(b)
	for b.Loop() {
		found := 0
		for since := uint64(0); since < proto.EndOf(state.Last); {
			page, err := reader.Read(b.Context(), natsx.Range{Names: []string{"quiet.one"}, Since: since,
				UpTo: proto.EndOf(state.Last), Messages: 100})
			if err != nil {
				b.Fatal(err)
			}
			found, since = found+len(page.Messages), page.End
		}
		if found != 10 {
			b.Fatalf("found %d messages", found)
		}
	}
	read := float64(nc.Stats().InBytes-before) / float64(b.N)
	b.ReportMetric(read/1024, "KB-from-NATS/op")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "µs-CPU/op")
	if most := 700 << 10; read > float64(most) {
		b.Errorf("%d KB were read for ten messages, want at most %d", int(read)>>10, most>>10)
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
