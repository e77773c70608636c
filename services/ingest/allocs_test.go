package ingest

import (
	"bufio"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/nats-io/nats.go"
)

// What ingest itself allocates for a message, apart from net/http and nats.go.
// More than that is a choice to be made, not an accident.
func TestAllocations(t *testing.T) {
	s := &Service{cfg: DefaultConfig(), publisher: &publisher{stream: &stream{}}}
	o := &origin{Grant: auth.Grant{Principal: &auth.Principal{Name: "shop", Channels: []string{">"}}}, source: "192.0.2.1"}
	now := time.Now()
	var msg nats.Msg
	var answer []byte
	// through does what a message goes through, but for HTTP and NATS.
	through := func(b []byte, place int) {
		p, err := s.parse(o, b, "")
		if err != nil {
			t.Fatal(err)
		}
		o.fill(&msg, &p, p.Channel, place, now)
		res := proto.Result{Status: proto.StatusStored, ID: proto.Cursor{Epoch: "mib3k2x9", Seq: 1024}.String(), Channel: p.Channel}
		answer = res.AppendTo(answer[:0])
	}
	single, line := []byte(benchMessage), benchMessage+"\n"
	keyed := []byte(`{"channel":"orders.eu","id":"order-17","event":"paid","ttl":60,"data":` + data + `}`)
	stream := strings.NewReader("")
	in := &lineReader{r: bufio.NewReaderSize(stream, 64<<10)}
	ack := &nats.Msg{Data: []byte(`{"stream":"HERALD","seq":1024}`)}
	for _, c := range []struct {
		name string
		want float64
		do   func()
	}{
		// The channel and a copy of the data, which outlive the body; the time
		// for the body, the subject and the time of acceptance for nats.go; the
		// id for the result.
		{"a message", 6, func() { through(single, whole) }},
		// The same, and nothing for the line: it stays in the reader's buffer.
		{"a line of a stream", 6, func() {
			stream.Reset(line)
			in.r.Reset(stream)
			b, err := in.next()
			if err != nil {
				t.Fatal(err)
			}
			through(b, in.number)
		}},
		// Besides, event, key, message id and TTL as strings.
		{"a message with everything", 10, func() { through(keyed, whole) }},
		{"an acknowledgement", 0, func() {
			if out := readAck(ack); out.seq != 1024 || out.err != nil {
				t.Fatalf("got %+v", out)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(100, c.do); got > c.want {
				t.Errorf("got %v allocations, want at most %v", got, c.want)
			}
		})
	}
}
