package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natsd"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/prometheus/client_golang/prometheus"
)

// data is a payload of 128 bytes.
var data = `{"n":1,"text":"` + strings.Repeat("x", 111) + `"}`

// benchMessage is one publication with it.
var benchMessage = `{"channel":"orders.eu","data":` + data + `}`

// benchWay is one way in which the benchmarks publish.
type benchWay struct {
	name, contentType, body string
	each                    int // messages of a request
	conns                   int // requests that are under way at a time
	keyed                   bool
}

var benchWays = []benchWay{
	{"single", "application/json", benchMessage, 1, 32, false},
	{"single-64", "application/json", benchMessage, 1, 64, false},
	{"array", "application/json", "[" + strings.Repeat(benchMessage+",", 99) + benchMessage + "]", 100, 32, false},
	{"ndjson", "application/x-ndjson", strings.Repeat(benchMessage+"\n", 100), 100, 32, false},
	{"ndjson-keyed", "application/x-ndjson", strings.Repeat(benchMessage+"\n", 100), 100, 32, true},
}

// request is one request of this way. With keys it has an idempotency key, in which rekey
// writes another number for each request.
func (w benchWay) request(addr string) []byte {
	key := ""
	if w.keyed {
		key = keyHeader + strings.Repeat("0", keyDigits) + "\r\n"
	}
	const format = "POST /v1/messages HTTP/1.1\r\nHost: %s\r\nX-API-KEY: %s\r\nContent-Type: %s\r\n" +
		"%sContent-Length: %d\r\n\r\n%s"
	return fmt.Appendf(nil, format, addr, envKey, w.contentType, key, len(w.body), w.body)
}

const (
	keyHeader = "Idempotency-Key: bench-"
	keyDigits = 20
)

// rekey gives a request another key. It is the caller's own.
func (w benchWay) rekey(request []byte, n int64) {
	if i := bytes.Index(request, []byte(keyHeader)) + len(keyHeader); w.keyed {
		copy(request[i:], fmt.Sprintf("%0*d", keyDigits, n))
	}
}

// cpu is what this process has used, user and system.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPublish stores messages with 128 bytes of data: one by one, in
// arrays of 100, in NDJSON streams of 100 lines, these with idempotency keys, too. An op is one message, stored
// and acknowledged by JetStream with file storage; 32 or 64 requests are under way
// at a time, over as many kept connections.
//
// cpu-µs/op is the user and system time of this process: HTTP, ingest, NATS's
// client and an embedded nats-server that is reached through memory, as in the
// single binary, with the kernel's share of it all. Not in it is the load,
// which a second process makes: this binary again, see loadVariable. ns/op is
// the wall time of both together.
//
// Each way once with every message on the disk before it is acknowledged, as is
// the default, and once with an fsync each second.
//
//	go test -run '^$' -bench Publish -benchtime 3s
func BenchmarkPublish(b *testing.B) {
	for name, sync := range map[string]time.Duration{"always": 0, "1s": time.Second} {
		b.Run("sync="+name, func(b *testing.B) { benchPublish(b, sync) })
	}
}

func benchPublish(b *testing.B, sync time.Duration) {
	server, err := natsd.Start(natsd.Config{Dir: b.TempDir(), SyncInterval: sync}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Shutdown)
	nc, err := natsx.Connect(natsx.Config{Name: "herald-ingest"}, slog.New(slog.DiscardHandler), server.InProcess())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	r := start(b, nil, func(_ *Config, d *Deps) { d.NATS, d.Log = nc, slog.New(slog.DiscardHandler) })
	for _, way := range benchWays {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			requests := (b.N + way.each - 1) / way.each
			packs, packed := packsOf(b, r.reg)
			publishLoad(b, r.Addr().String(), way.name, requests)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			if n, m := packsOf(b, r.reg); n > packs {
				b.ReportMetric((m-packed)/float64(n-packs), "msgs/pack")
			}
		})
	}
}

// packsOf is how many packs have left so far, and with how many messages.
func packsOf(b *testing.B, reg prometheus.Gatherer) (packs uint64, messages float64) {
	b.Helper()
	families, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "herald_ingest_pack_messages" {
			h := f.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum()
		}
	}
	b.Fatal("no metric herald_ingest_pack_messages")
	return 0, 0
}

// publishLoad is a load of so many requests from its first to its last one.
func publishLoad(b *testing.B, addr, way string, requests int) {
	b.Helper()
	load := exec.Command(os.Args[0])
	load.Env = append(os.Environ(), loadVariable+"="+addr+" "+way+" "+strconv.Itoa(requests))
	load.Stderr = os.Stderr
	begin, err1 := load.StdinPipe()
	ready, err2 := load.StdoutPipe()
	if err := errors.Join(err1, err2, load.Start()); err != nil {
		b.Fatalf("the load: %v", err)
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		b.Errorf("the load: %v", err)
	}
	before := cpu()
	b.ResetTimer()
	_ = begin.Close()
	err := load.Wait()
	b.StopTimer()
	if err != nil {
		b.Fatalf("the load: %v", err)
	}
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

// loadVariable makes this binary the load of BenchmarkPublish instead of
// tests: "address way requests". It connects, says so on its standard output,
// and begins when its standard input ends.
const loadVariable = "HERALD_INGEST_BENCH_LOAD"

func benchLoad(arg string) error {
	var addr, name string
	var requests int64
	if _, err := fmt.Sscan(arg, &addr, &name, &requests); err != nil {
		return fmt.Errorf("%s: %w", loadVariable, err)
	}
	i := slices.IndexFunc(benchWays, func(w benchWay) bool { return w.name == name })
	if i < 0 {
		return fmt.Errorf("%s: no way %q", loadVariable, name)
	}
	way := benchWays[i]
	request, ask := way.request(addr), way.ask
	if way.each == 1 {
		ask = askOne
	}
	conns := make([]net.Conn, way.conns)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		conns[i] = c
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	begin := time.Now().UnixNano() // no key of an earlier load
	var left atomic.Int64
	left.Store(requests)
	errs := make([]error, len(conns))
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			own := bytes.Clone(request)
			for in := bufio.NewReader(c); errs[i] == nil; {
				n := left.Add(-1)
				if n < 0 {
					return
				}
				way.rekey(own, begin+n)
				errs[i] = ask(c, in, own)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ask is one request; the error says if not all of it was stored.
func (w benchWay) ask(c net.Conn, in *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	n := bytes.Count(answer, isStored)
	if w.keyed { // what was sent again, since its acknowledgement was late, is a duplicate of its own
		n += bytes.Count(answer, []byte(`"status":"`+proto.StatusDuplicate+`"`))
	}
	if n != w.each {
		return fmt.Errorf("%s: %d of %d stored: %.200s", resp.Status, n, w.each, answer)
	}
	return nil
}

var isStored = []byte(`"status":"` + proto.StatusStored + `"`)

// askOne is ask for one message, without net/http's price for a response: the load
// has the same two processors. An answer is a line after the headers.
func askOne(c net.Conn, in *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	for {
		switch line, err := in.ReadSlice('\n'); {
		case err != nil:
			return err
		case len(line) > 2: // a header
			continue
		}
		line, err := in.ReadSlice('\n')
		if err == nil && !bytes.Contains(line, isStored) {
			err = fmt.Errorf("not stored: %.200s", line)
		}
		return err
	}
}
