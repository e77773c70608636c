package gateway

import (
	"testing"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// A stream that comes back without its newest messages gives their sequences
// to others. Live clients are told, however busy the stream is by then, and so
// is who comes back with the id of a message that is lost; who has an id from
// before resumes with nothing missing.
func TestStreamLosesItsTail(t *testing.T) {
	for _, c := range []struct {
		name  string
		later int // messages stored after the loss, before the gateway sees it
	}{{"quiet", 0}, {"fewer than were lost", 10}, {"more than were lost", 40}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBroker(t)
			g := b.gateway()
			cl, _ := g.connect("")
			kept := b.publishMany(5, "broadcast")
			cl.ids(b.upTo(1, kept, 1)...)
			var lost string
			b.Forget(func() {
				natstest.Eventually(t, patience, "the gateway is connected", g.nc.IsConnected)
				b.nc = b.Connect()
				b.declare()
				b.publishMany(20, "broadcast")
				lost = b.id(25)
				cl.ids(b.upTo(6, 25, 1)...)
			})
			b.nc = b.Connect()
			b.declare()
			if c.later > 0 {
				b.publishMany(c.later, "broadcast")
			}
			if f, err := cl.read(); !websocket.IsCloseError(err, int(proto.CloseRestart)) {
				t.Fatalf("got %s, %v after %s; want to be told to come back", f.raw, err, lost)
			}
			back := g.dial("since=" + lost)
			if w := back.want(proto.FrameWelcome); w.Resumed {
				t.Errorf("got %s", w.raw)
			}
			if f := back.want(proto.FrameGap); f.Reason != proto.GapEpoch || f.Since != lost {
				t.Errorf("got %s", f.raw)
			}
			before := g.dial("since=" + b.id(kept-1))
			before.resumed(true, b.id(kept-1))
			last := b.publish("broadcast", "1")
			before.ids(b.upTo(kept, last, 1)...)
			back.ids(b.upTo(kept+1, last, 1)...) // all that it has not seen
		})
	}
}
