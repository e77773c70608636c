package gateway

import (
	"testing"

	"github.com/herald-push/herald/proto"
)

// A client that missed little is caught up in the hub's shard, where its messages leave in
// one write, however many packs they came in; one that missed more than a chunk by its session.
func TestIsFar(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	first := b.publish("a", "0")
	last := b.publishMany(chunk, "a", "b") // each a pack of its own
	g.reached(last)
	for _, c := range []struct {
		name  string
		since uint64 // a pack
		want  bool
	}{
		{"nothing missed", last, false},
		{"twenty messages", last - 20, false},
		{"as many as a chunk", first, false},
		{"more than a chunk", first - 1, true},
	} {
		if got := g.isFar(proto.EndOf(c.since)); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
}
