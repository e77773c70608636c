package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/nats-io/nats.go"
)

// Retention that overtakes a client in the middle of its replay is told.
func TestRetentionOvertakesAReplay(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(tiny)
	data := `"` + strings.Repeat("x", 2000) + `"`
	const total, purged = 1200, 1100
	if _, err := natstest.Publish(b.js.Conn(), func(yield func(*nats.Msg) bool) {
		for range total {
			if !yield(message("broadcast", data)) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	g.reached(total)
	c := g.dialSmall("since=" + b.place(0))
	c.resumed(true, b.place(0))
	c.ids(b.id(1)) // and then it does not read on, so that the replay must wait
	b.purge(purged)
	seen, told := uint64(1), uint64(0) // stream sequences
	for seen < total {
		f := c.next()
		switch cur, err := proto.ParseCursor(f.ID); {
		case err != nil:
			t.Fatalf("got %.200s: %v", f.raw, err)
		case f.Type == proto.FrameGap:
			if since, err := proto.ParseCursor(f.Since); f.Reason != proto.GapExpired || err != nil ||
				proto.PackOf(since.Seq) != seen {
				t.Fatalf("after %d: got %s", seen, f.raw)
			}
			told = proto.PackOf(cur.Seq)
		case proto.PackOf(cur.Seq) != seen+1 && proto.PackOf(cur.Seq) != told+1:
			t.Fatalf("%s follows %d, and the gap goes up to %d", f.ID, seen, told)
		default:
			seen = proto.PackOf(cur.Seq)
		}
	}
	if told != purged {
		t.Errorf("the gap goes up to %d, want %d", told, purged)
	}
}

// While the stream does not answer, a client that needs it is told to come
// back, and one that needs only memory does not notice.
func TestResumeWithoutTheStream(t *testing.T) {
	b := newBroker(t)
	last := b.publishMany(5, "broadcast")
	g := b.gateway()
	g.reached(last)
	live := b.publishMany(5, "broadcast")
	g.reached(live)
	b.Stop()
	c := g.dial("since=" + b.id(last+2))
	c.resumed(true, b.id(last+2))
	c.ids(b.upTo(last+3, live, 1)...)
	c, resp, err := g.try("since="+b.id(1), nil)
	if err != nil {
		t.Fatalf("%v, %v", resp, err)
	}
	if code, e := c.closed(); code != proto.CloseOverload || e.Code != "overload" {
		t.Errorf("got %d after %s", code, e.raw)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("got %d", resp.StatusCode)
	}
}
