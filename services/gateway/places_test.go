package gateway

import (
	"testing"

	"github.com/herald-push/herald/proto"
)

// A client of a channel where nothing happens does not grow old while it is
// connected: its place moves on with the stream, over WebSocket and as an event
// stream, and once more before the gateway drains.
func TestPlacesMoveOn(t *testing.T) {
	t.Parallel() // it waits more than it works
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.Heartbeat = patient })
	c, _ := g.connect("channel=quiet")
	c.places = true
	e := g.events("channel=quiet")
	e.want(proto.FrameWelcome)
	b.publishMany(10, "busy")
	last := b.place(10) // not the message itself: once its pack has expired, nobody knows whether it was the last
	until := func(id string) {
		t.Helper()
		for c.want(proto.FramePosition).ID != id {
		}
	}
	until(last)
	for line := ""; line != "id: "+last+"\n"; {
		var err error
		if line, err = e.lines.ReadString('\n'); err != nil {
			t.Fatalf("the event stream's place: %v", err)
		}
	}
	b.purge(10)
	back := g.dial("channel=quiet&since=" + last)
	back.resumed(true, last)

	g.reached(b.publishMany(3, "busy"))
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	until(b.place(13))
	_ = c.ws.Close()
	_ = back.ws.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
