package conn_test

import (
	"io"
	"sync"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
)

// One operation is one message of 1 KB, made into a frame and written to 200
// clients, which only throw it away.
func BenchmarkDeflatedFanout(b *testing.B) {
	doc := document(1000)
	for _, c := range []struct {
		name  string
		frame func([]byte) []byte
	}{{"plain", textFrame}, {"deflated", deflatedFrame}} {
		b.Run(c.name, func(b *testing.B) {
			s := newServer(b, conn.Config{Deflate: true}, "tcp", false)
			var conns []*conn.Conn
			var reading sync.WaitGroup
			for range 200 {
				p, conn, _ := s.connectOffering("permessage-deflate")
				conns = append(conns, conn)
				reading.Go(func() { _, _ = io.Copy(io.Discard, p.nc) }) // until the server hangs up
			}
			for b.Loop() {
				f := c.frame(doc)
				for _, conn := range conns {
					conn.Push(f)
				}
			}
			for _, conn := range conns {
				conn.Close(proto.CloseGoingAway)
			}
			reading.Wait()
		})
	}
}
