package ingest

import (
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/ingest/internal/publish"
	"github.com/nats-io/nats.go"
)

// swallow takes the stream's place: messages are heard and not acknowledged.
func (r *rig) swallow(t *testing.T) <-chan *nats.Msg {
	t.Helper()
	if err := r.js.DeleteStream(t.Context(), proto.Stream); err != nil {
		t.Fatal(err)
	}
	heard := make(chan *nats.Msg, 8192)
	if _, err := r.nc.ChanSubscribe(proto.SubjectPacks, heard); err != nil {
		t.Fatal(err)
	}
	if err := r.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return heard
}

// A result is not held back while a later line waits for NATS.
func TestStreamAnswersBesideASlowLine(t *testing.T) {
	r := start(t, startNATS(t))
	heard := r.swallow(t)
	d := r.open(t, "nope\n{\"channel\":\"a\",\"data\":1}\n")
	if res := d.read(); res.Line != 1 || res.Status != proto.StatusInvalid {
		t.Errorf("got %+v", res)
	}
	if err := (<-heard).Respond([]byte(`{"stream":"HERALD","seq":7}`)); err != nil {
		t.Fatal(err)
	}
	if res := d.read(); res.Line != 2 || res.Status != proto.StatusStored {
		t.Errorf("got %+v", res)
	}
}

// A message that found no stream is sent again, and nothing behind it
// overtakes it.
func TestOrderIsKept(t *testing.T) {
	r := start(t, startNATS(t))
	if err := r.js.DeleteStream(t.Context(), proto.Stream); err != nil {
		t.Fatal(err)
	}
	first := r.send("1")
	if err := r.publisher.Recheck(t.Context()); err != nil { // declares it anew
		t.Fatal(err)
	}
	second := r.send("2")
	for i, d := range []*publish.Delivery{first, second} {
		if res, err := r.publisher.Settle(t.Context(), d); err != nil || res.Status != proto.StatusStored {
			t.Errorf("message %d: got %+v, %v", i+1, res, err)
		}
	}
	if all := stored(t, r.nc); len(all) != 2 || !strings.Contains(string(all[0].Body), `"data":1,`) {
		t.Errorf("stored: got %d messages, want two in order", len(all))
	}
}

// send sends a message as a request to channel a does.
func (r *rig) send(data string) *publish.Delivery {
	o := &publish.Origin{Sender: "env"}
	return r.publisher.Send(o, &proto.Publication{Channel: "a", Event: "message", Data: []byte(data)},
		"a", publish.Whole)
}

// A full pipeline is answered with 503, after a moment's wait for room.
func TestPipelineFull(t *testing.T) {
	r := start(t, startNATS(t))
	r.swallow(t)
	for n := 0; !r.send("1").Unsent(); n++ {
		if n > 20_000 {
			t.Fatalf("%d messages wait for NATS", n)
		}
	}
	p := r.post("/v1/messages", `{"channel":"b","data":1}`).problem(t, proto.ProblemNotStored)
	if !strings.Contains(p.Detail, "wait for NATS") {
		t.Errorf("detail: got %q", p.Detail)
	}
}
