package ingest

import (
	"bufio"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// data is a payload of 128 bytes.
var data = `{"n":1,"text":"` + strings.Repeat("x", 111) + `"}`

// cpu is what this process has used: client, ingest and NATS together, for
// they share it.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPublish stores messages of 128 bytes over HTTP in an embedded NATS
// with file storage; each op is one message, acknowledged. cpu-µs/op counts
// the whole process, the client included.
//
//	go test -run '^$' -bench Publish -benchtime 3s
func BenchmarkPublish(b *testing.B) {
	r := start(b, startNATS(b), func(_ *Config, d *Deps) { d.Log = slog.New(slog.DiscardHandler) })
	message := `{"channel":"orders.eu","data":` + data + `}`
	post := func(b *testing.B, contentType string, body io.Reader) {
		req, err := http.NewRequest(http.MethodPost, r.url+"/v1/messages", body)
		if err != nil {
			b.Error(err)
			return
		}
		req.Header.Set("X-API-KEY", envKey)
		req.Header.Set("Content-Type", contentType)
		resp, err := r.client.Do(req)
		if err != nil {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Errorf("status: got %d, want 200", resp.StatusCode)
		}
	}
	measure := func(name string, run func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpu()
			b.ResetTimer()
			run(b)
			b.StopTimer()
			b.ReportMetric(float64((cpu()-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
		})
	}
	measure("single", func(b *testing.B) {
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				post(b, "application/json", strings.NewReader(message))
			}
		})
	})
	measure("array of 100", func(b *testing.B) {
		body := "[" + strings.Repeat(message+",", 99) + message + "]"
		for n := 0; n < b.N; n += 100 {
			post(b, "application/json", strings.NewReader(body))
		}
	})
	measure("ndjson", func(b *testing.B) {
		pr, pw := io.Pipe()
		go func() { // ends when the body is written
			w := bufio.NewWriterSize(pw, 64<<10)
			line := []byte(message + "\n")
			for range b.N {
				_, _ = w.Write(line)
			}
			_ = w.Flush()
			_ = pw.Close()
		}()
		post(b, "application/x-ndjson", pr)
	})
}
