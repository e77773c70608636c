package gateway

import (
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
)

// Another epoch that ingest has begun holds for the next message, also where this gateway noticed nothing.
func TestEpochThatIngestBegan(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	c, _ := g.connect("")
	c.ids(b.id(b.publish("broadcast", "1")))
	epochs, err := natsx.RenewEpoch(t.Context(), b.js, natsx.StreamConfig{MaxAge: time.Hour, MaxBytes: 256 << 20},
		b.epoch)
	if err == nil {
		err = natsx.TellRenewed(b.nc)
	}
	if err != nil {
		t.Fatal(err)
	}
	seq := b.publish("broadcast", "2")
	if epochs.Newest() == b.epoch {
		t.Fatal("no other epoch has begun")
	}
	c.ids(proto.Cursor{Epoch: epochs.Newest(), Seq: proto.Number(seq, 0)}.String())
}

// How far the stream had got a gateway tells those who start only when it saw the stream grow: what it read when it
// started itself may be the end of an older copy.
func TestTellsOnlyWhatItSawGrow(t *testing.T) {
	b := newBroker(t)
	b.publish("broadcast", "0")
	g := b.gateway()
	c, _ := g.connect("")
	asks := func() uint64 {
		known, err := natsx.AskKnown(t.Context(), b.nc)
		if err != nil {
			t.Fatal(err)
		}
		return known.Last(b.epoch)
	}
	if seq := asks(); seq != 0 {
		t.Errorf("it only read the stream, and says that it had got to %d", seq)
	}
	seq := b.publish("broadcast", "1")
	c.ids(b.id(seq))
	natstest.Eventually(t, patience, "it tells what it saw", func() bool { return asks() == seq })
}
