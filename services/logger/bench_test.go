package logger

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/herald-push/herald/services/internal/telemetry"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// A copy of this test binary is the logger that is measured, so that its CPU
// is told apart from that of NATS and of the publisher: it logs so many rows,
// says what that took, and ends.
const (
	measuredRowsEnv = "HERALD_TEST_MEASURED_ROWS"
	// profileEnv names a file for the CPU profile of the measured process.
	profileEnv = "HERALD_TEST_PROFILE"
)

// measured is what the rows cost the logger's process.
type measured struct {
	User, System time.Duration
	MaxRSS       int64 // bytes
}

// usage is what this process has taken so far. The most memory is VmHWM of
// /proc: getrusage counts that of the process which started this one.
func usage() measured {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	m := measured{User: time.Duration(u.Utime.Nano()), System: time.Duration(u.Stime.Nano())}
	status, _ := os.ReadFile("/proc/self/status") // where there is none, 0 is said
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			m.MaxRSS = kib << 10
		}
	}
	return m
}

func logMeasured() {
	rows, err := strconv.Atoi(os.Getenv(measuredRowsEnv))
	if err != nil {
		panic(err)
	}
	log, _, err := telemetry.NewLogger(os.Stderr, "logger", telemetry.LogConfig{Level: "warn", Format: "text"})
	if err != nil {
		panic(err)
	}
	nc, err := natsx.Connect(natsx.Config{URL: os.Getenv(childNATSEnv), Name: "measured"}, log)
	if err != nil {
		panic(err)
	}
	reg := prometheus.NewRegistry()
	s, err := New(context.Background(), Config{DB: childFile()}, Deps{NATS: nc, Log: log, Registry: reg,
		Ops: telemetry.NewOps(reg)})
	if err != nil {
		panic(err)
	}
	if path := os.Getenv(profileEnv); path != "" {
		f, err := os.Create(path)
		if err != nil {
			panic(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			panic(err)
		}
		defer pprof.StopCPUProfile()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // ends below
	metric := func(name string) float64 {
		v, err := gathered(reg, name)
		if err != nil {
			panic(err)
		}
		return v
	}
	for metric("herald_logger_rows_total") < float64(rows) {
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		panic(err)
	}
	nc.Close()
	if err := json.NewEncoder(os.Stdout).Encode(usage()); err != nil {
		panic(err)
	}
}

// BenchmarkLogger drains a stream that is full already into the log; each op
// is one row of 128 bytes of data. rows/cpu-s counts the logger's process
// alone, from its start to its end: receiving, writing with the search index,
// and acknowledging. broker-µs/op is what NATS needs to deliver them.
//
//	go test -run '^$' -bench Logger -benchtime 300000x .
func BenchmarkLogger(b *testing.B) {
	w := newWorld(b)
	w.publishWords(b.N)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFileEnv+"="+w.cfg.DB, childNATSEnv+"="+w.nats.URL,
		measuredRowsEnv+"="+strconv.Itoa(b.N))
	cmd.Stderr = os.Stderr
	broker := usage()
	b.ResetTimer()
	out, err := cmd.Output()
	b.StopTimer()
	brokerUsed := usage()
	if err != nil {
		b.Fatal(err)
	}
	var m measured
	if err := json.Unmarshal(out, &m); err != nil {
		b.Fatalf("the measured logger said %q: %v", out, err)
	}
	perRow := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(b.N) }
	b.ReportMetric(float64(b.N)/(m.User+m.System).Seconds(), "rows/cpu-s")
	b.ReportMetric(perRow(m.User), "user-µs/op")
	b.ReportMetric(perRow(m.System), "sys-µs/op")
	b.ReportMetric(perRow(brokerUsed.User+brokerUsed.System-broker.User-broker.System), "broker-µs/op")
	b.ReportMetric(float64(m.MaxRSS)/(1<<20), "MiB-RSS")
	l, err := OpenLog(w.cfg.DB)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if last, err := l.store.LastSeq(context.Background(), w.epoch); err != nil || last != proto.Number(uint64(b.N), 0) {
		b.Errorf("last row: got %d, %v, want %d", last, err, b.N)
	}
}

// publishWords stores n messages of 128 bytes of data: some numbers, of which
// each is rare, and words of a vocabulary of two thousand.
func (w *world) publishWords(n int) {
	w.Helper()
	rng := newRand()
	if _, err := natstest.Publish(w.nc, func(yield func(*nats.Msg) bool) {
		for i := range n {
			m := proto.Message{Channel: fmt.Sprintf("orders.%d", i%50), Event: "message", Data: wordsOf(rng, i),
				Sender: "shop", Time: proto.FormatTime(time.Now())}
			if !yield(natstest.NewMsg(&m, natstest.Headers{Source: "203.0.113.7", Accepted: time.Now()}, false)) {
				return
			}
		}
	}); err != nil {
		w.Fatal(err)
	}
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

var vocabulary = func() []string {
	rng := rand.New(rand.NewPCG(3, 4))
	syllables := strings.Fields("ba be di do fa ge hi ko la me ni po ra se ti tu va we xi zo")
	words := make([]string, 2000)
	for i := range words {
		for range 1 + rng.IntN(4) {
			words[i] += syllables[rng.IntN(len(syllables))]
		}
	}
	return words
}()

func wordsOf(rng *rand.Rand, n int) []byte {
	const size = 128
	b := fmt.Appendf(nil, `{"n":%d,"user":"u%d","text":"`, n, rng.IntN(100_000))
	for len(b) < size {
		b = append(append(b, vocabulary[int(rng.ExpFloat64()*300)%len(vocabulary)]...), ' ')
	}
	return append(b[:size-2], '"', '}')
}
