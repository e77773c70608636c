package conn

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/herald-push/herald/proto"
)

func BenchmarkDeflatedFrame(b *testing.B) {
	for _, n := range []int{200, 800, 10000, 64000} {
		doc := document(n)
		b.Run(fmt.Sprintf("%dB", len(doc)), func(b *testing.B) {
			b.ReportAllocs()
			f := DeflatedFrame(doc)
			for b.Loop() {
				f = DeflatedFrame(doc)
			}
			b.ReportMetric(float64(len(f))/float64(len(doc)), "left")
		})
	}
}

func BenchmarkInflate(b *testing.B) {
	for _, c := range []struct{ name, in string }{
		{"subscribe", deflate(`{"type":"subscribe","channels":["orders.eu","orders.us"]}`)},
		{"8KB", deflate(string(document(8000)))},
		{"bomb", deflate(strings.Repeat("x", 1<<20))},
		{"headers", headers()}, // what costs most to read,
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			in := []byte(c.in)
			for b.Loop() {
				_, _ = inflate(in)
			}
		})
	}
}

// headers is as many blocks as fit, each with Huffman tables of its own, 90
// bits in all, for no data (RFC 1951 section 3.2.7).
func headers() string {
	var b []byte
	bits := 0
	put := func(n, x int) { // the lowest bit first
		for ; n > 0; n, x, bits = n-1, x>>1, bits+1 {
			if bits%8 == 0 {
				b = append(b, 0)
			}
			b[bits/8] |= byte(x&1) << (bits % 8)
		}
	}
	for range (proto.MaxFrameBytes - 1) * 8 / 90 {
		put(3, 0b100)   // dynamic, not the last
		put(14, 14<<10) // 257 literals, 1 distance, 18 lengths of code lengths
		for i := range 18 {
			put(3, map[int]int{2: 1, 17: 1}[i]) // of runs of zeros (code 1) and of ones (code 0)
		}
		put(8, 1|127<<1) // 138 zeros
		put(8, 1|107<<1) // 118 zeros
		put(3, 0)        // a one for the end of the block, one for a distance; the end
	}
	put(3, 0) // an empty block, whose rest afterMessage is
	return string(b)
}

// One operation is one message of 1 KB, made into a frame and written to 200
// clients, which only throw it away.
func BenchmarkDeflatedFanout(b *testing.B) {
	doc := document(1000)
	for _, c := range []struct {
		name  string
		frame func([]byte) []byte
	}{{"plain", TextFrame}, {"deflated", DeflatedFrame}} {
		b.Run(c.name, func(b *testing.B) {
			s := newServer(b, Config{Deflate: true}, "tcp", false)
			var conns []*Conn
			var reading sync.WaitGroup
			for range 200 {
				p, conn, _ := s.connectOffering("permessage-deflate")
				conns = append(conns, conn)
				reading.Go(func() { _, _ = io.Copy(io.Discard, p.nc) }) // until the server hangs up
			}
			for b.Loop() {
				f := c.frame(doc)
				for _, conn := range conns {
					conn.Send(f)
					conn.Flush()
				}
			}
			for _, conn := range conns {
				conn.Close(proto.CloseGoingAway)
			}
			reading.Wait()
		})
	}
}
