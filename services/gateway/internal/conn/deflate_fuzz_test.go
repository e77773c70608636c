package conn_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/herald-push/herald/services/gateway/internal/ws"
	"github.com/herald-push/herald/services/gateway/internal/wstest"
)

// Whatever a client sends that may compress, it ends for a known reason.
func FuzzDeflatingClient(f *testing.F) {
	f.Add(masked(opDeflated, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00")))
	f.Add(slices.Concat(masked(wstest.RSV1|byte(ws.Text), []byte("\xf2\x48\xcd")), masked(opPing, nil),
		masked(wstest.Fin, []byte("\xc9\xc9\x07\x00"))))
	f.Add(masked(opDeflated, []byte(deflate(strings.Repeat("x", 1<<20)))))
	f.Add(masked(opDeflated, []byte("{}")))
	s := newServer(f, conn.Config{Deflate: true}, "unix", false) // TCP would run out of ports
	s.frame = func(c *conn.Conn, b []byte) { c.Push(textFrame(b)) }
	f.Fuzz(func(t *testing.T, data []byte) {
		s.t = t
		p, _, _ := s.connectOffering("permessage-deflate")
		s.survives(t, p, data)
	})
}
