package proto_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/herald-push/herald/proto"
)

// BenchmarkPackAdd is the price of a message in a pack of as many as it takes,
// with 128 bytes of data on 10,000 channels.
func BenchmarkPackAdd(b *testing.B) {
	all := make([]packed, 10_000)
	for i := range all {
		all[i] = packed{packMessage(fmt.Sprintf("user.%d", i), `{"n":1,"text":"`+strings.Repeat("x", 111)+`"}`),
			proto.Private{Source: "203.0.113.7", Accepted: packTime}}
	}
	var pack proto.Pack
	header := make([]byte, 0, 16<<10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m := &all[i%len(all)]
		if !pack.HasRoom(&m.m, proto.MaxPackBytes) {
			header = pack.AppendChannels(header[:0])
			pack.Reset()
		}
		pack.Add(&m.m, m.p)
	}
}

// BenchmarkPackLookAt is the price of a message that nobody follows: its
// channel is found, and looked up among 10,000.
func BenchmarkPackLookAt(b *testing.B) {
	var pack proto.Pack
	channels := map[string]int{}
	for i := 0; ; i++ {
		m := packMessage(fmt.Sprintf("user.%d", i), `{"n":1,"text":"`+strings.Repeat("x", 111)+`"}`)
		if !pack.HasRoom(&m, proto.MaxPackBytes) {
			break
		}
		pack.Add(&m, proto.Private{Source: "203.0.113.7", Accepted: packTime})
	}
	for i := range 10_000 {
		channels[fmt.Sprintf("other.%d", i)] = i
	}
	lines := proto.ReadPack(nil)
	b.ReportAllocs()
	for b.Loop() {
		if !lines.Next() {
			lines = proto.ReadPack(pack.Body())
			lines.Next()
		}
		sink += channels[string(lines.Channel())]
	}
}
