package ingest

import (
	"bufio"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/auth"
)

// What ingest itself allocates for a message, apart from net/http and nats.go.
// More than that is a choice to be made, not an accident.
func TestAllocations(t *testing.T) {
	s := start(t, startNATS(t)).Service
	o := &origin{Grant: auth.Grant{Principal: &auth.Principal{Name: "shop", Channels: []string{">"}}}}
	var answer []byte
	// through does what a message goes through, but for HTTP and NATS.
	through := func(b []byte) {
		p, err := s.parse(o, b, "")
		if err != nil {
			t.Fatal(err)
		}
		res := proto.Result{Status: proto.StatusStored, ID: proto.Cursor{Epoch: "mib3k2x9", Seq: 1024}.String(),
			Channel: p.Channel}
		answer = res.AppendTo(answer[:0])
	}
	single, line := []byte(benchMessage), benchMessage+"\n"
	keyed := []byte(`{"channel":"orders.eu","id":"order-17","event":"paid","ttl":60,"data":` + data + `}`)
	stream := strings.NewReader("")
	in := &lineReader{r: bufio.NewReaderSize(stream, 64<<10)}
	for _, c := range []struct {
		name string
		want float64
		do   func()
	}{
		// The channel and a copy of the data, which outlive the body, and the id
		// for the result.
		{"a message", 3, func() { through(single) }},
		// The same, and nothing for the line: it stays in the reader's buffer.
		{"a line of a stream", 3, func() {
			stream.Reset(line)
			in.r.Reset(stream)
			b, err := in.next()
			if err != nil {
				t.Fatal(err)
			}
			through(b)
		}},
		// Besides, event and key as strings.
		{"a message with everything", 5, func() { through(keyed) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := testing.AllocsPerRun(100, c.do)
			for range 20 { // what runs in the background allocates, too
				if got > c.want {
					got = testing.AllocsPerRun(100, c.do)
				}
			}
			if got > c.want {
				t.Errorf("got %v allocations, want at most %v", got, c.want)
			}
		})
	}
}
