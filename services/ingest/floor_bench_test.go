package ingest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
)

// BenchmarkFloor is the part of BenchmarkPublish's single POSTs that is not Herald's:
// the same requests from the same load, each answered with the same line at once. Nothing
// is looked at, no key, no message, and nothing is published.
//
// net/http is its server with the timeouts that httpx sets. sockets is a goroutine
// for each connection that reads a request and writes an answer, with the headers that
// net/http would write: what the kernel and Go's poller cost.
//
//	go test -run '^$' -bench 'Floor|Publish/.*/single' -benchtime 3s
func BenchmarkFloor(b *testing.B) {
	id := proto.Cursor{Epoch: "mib3k2x9", Seq: 1 << 30}.String()
	res := proto.Result{Status: proto.StatusStored, Channel: "orders.eu", ID: id}
	line := append(res.AppendTo(nil), '\n')
	b.Run("net-http", func(b *testing.B) {
		l := benchListen(b)
		server := &http.Server{
			ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
			WriteTimeout: time.Minute, IdleTimeout: 75 * time.Second,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header()["Content-Type"] = []string{"application/json"}
				_, _ = w.Write(line)
			}),
		}
		go func() { _ = server.Serve(l) }() // ends with Close
		b.Cleanup(func() { _ = server.Close() })
		floor(b, l)
	})
	b.Run("sockets", func(b *testing.B) {
		const format = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %s\r\n\r\n%s"
		answer := fmt.Appendf(nil, format, len(line), time.Now().UTC().Format(http.TimeFormat), line)
		l := benchListen(b)
		go func() { // ends when l is closed; the connections when the load has ended
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go answerAll(c, len(benchWays[0].request(l.Addr().String())), answer)
			}
		}()
		floor(b, l)
	})
}

func benchListen(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}

func floor(b *testing.B, l net.Listener) {
	for _, way := range []string{"single", "single-64"} {
		b.Run(way, func(b *testing.B) {
			b.ReportAllocs()
			publishLoad(b, l.Addr().String(), way, b.N)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// answerAll answers requests of this length until the other side hangs up.
func answerAll(c net.Conn, length int, answer []byte) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		if _, err := in.Discard(length); err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
