package natsx_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/proctest"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// channelsEnv is on how many channels BenchmarkChannels stores a message; 1,500,000 is
// what the goal of 150 MB is for.
const channelsEnv = "HERALD_BENCH_CHANNELS"

const goalMB = 150

// BenchmarkChannels stores one message on each of many channels, in packs of 50, one in
// flight as ingest has it, in a nats-server of its own, and reports the server's resident memory before and after.
func BenchmarkChannels(b *testing.B) {
	channels := 50_000
	if n, err := strconv.Atoi(os.Getenv(channelsEnv)); err == nil {
		channels = n
	}
	dir, addr := b.TempDir(), "127.0.0.1:"+proctest.FreePort(b)
	config := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: %q\njetstream { store_dir: %q, sync_interval: always }\n", addr, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	p := proctest.Start(b, proctest.Build(b, "github.com/nats-io/nats-server/v2"), dir, nil, "-c", config)
	var nc *nats.Conn
	natstest.Eventually(b, 30*time.Second, "nats-server answers", func() bool {
		var err error
		nc, err = natsx.Connect(natsx.Config{URL: "nats://" + addr, Name: "bench"}, natstest.Log(b))
		return err == nil && nc.IsConnected()
	})
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err == nil {
		_, err = natsx.EnsureStream(b.Context(), js, natsx.StreamConfig{MaxAge: time.Hour, MaxBytes: 4 << 30})
	}
	if err != nil {
		b.Fatal(err)
	}
	data := fmt.Appendf(nil, `"%0120d"`, 0)
	var pack proto.Pack
	before, most, stored := resident(b, p.Pid()), 0.0, 0
	for b.Loop() {
		for n := 0; n < channels; {
			pack.Reset()
			for range 50 {
				pack.Add(&proto.Message{Channel: fmt.Sprintf("user.%d", stored+n), Event: "message", Data: data,
					Sender: "bench",
					Time:   "2026-11-22T16:58:36.123Z"}, proto.Private{Accepted: time.Now(), Source: "192.0.2.1"})
				n++
			}
			header := nats.Header{proto.HeaderChannels: {string(pack.AppendChannels(nil))}}
			msg := &nats.Msg{Subject: proto.SubjectPacks, Data: pack.Body(), Header: header}
			if _, err := js.PublishMsg(b.Context(), msg); err != nil {
				b.Fatal(err)
			}
			if n%50_000 == 0 {
				most = max(most, resident(b, p.Pid()))
			}
		}
		stored += channels
	}
	// What the server keeps of blocks that it has just written, and garbage, is not of the
	// channels: it goes within the two minutes after which Go collects in any case.
	rest := time.Now()
	after := resident(b, p.Pid())
	for ; after > goalMB && time.Since(rest) < 4*time.Minute; after = resident(b, p.Pid()) {
		time.Sleep(time.Second)
	}
	b.ReportMetric(before, "MB-before")
	b.ReportMetric(most, "MB-while-writing")
	b.ReportMetric(after, "MB-at-rest")
	b.ReportMetric(time.Since(rest).Seconds(), "s-of-rest")
	if after > goalMB {
		b.Errorf("nats-server has %.0f MB of resident memory with %d channels, want at most %d", after, stored, goalMB)
	}
}

// resident is the resident memory of a process in MB.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	var size, pages float64
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err == nil {
		_, err = fmt.Sscan(string(statm), &size, &pages)
	}
	if err != nil {
		b.Fatal(err)
	}
	return pages * float64(os.Getpagesize()) / 1e6
}
