package publish

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// storedMessage is a message as it stands in the stream.
type storedMessage struct {
	id, channel, data string
	expires           int64
	pack              uint64
}

// storedMessages reads the whole stream, in order.
func storedMessages(t testing.TB, nc *nats.Conn, epoch string) (all []storedMessage) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		raw, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatalf("sequence %d: %v", seq, err)
		}
		lines, err := natsx.OpenLines(raw.Subject, raw.Header, raw.Data)
		if err != nil {
			t.Fatalf("sequence %d: %v", seq, err)
		}
		for lines.Next() {
			m, err := proto.ParseMessage(lines.Message())
			if err != nil {
				t.Fatalf("sequence %d, place %d: %v", seq, lines.Place(), err)
			}
			id := proto.Cursor{Epoch: epoch, Seq: proto.Number(seq, lines.Place())}
			all = append(all, storedMessage{id.String(), m.Channel, string(m.Data), lines.Expires(), seq})
		}
	}
	return all
}

// modelMessage is what a publisher of the model sent, and what it was told.
type modelMessage struct {
	channel, data, key string
	ttl                int64
	ephemeral          bool
	status, id         string
}

// Random publications meet random losses of acknowledgements and connections.
// Held against what the publishers sent: whatever they were told is stored is
// stored under that id, once; nothing else is; what one publisher sent to one
// channel stands in the order in which it was sent.
func TestModel(t *testing.T) {
	for name, clustered := range map[string]bool{"one server": false, "as in a cluster": true} {
		t.Run(name, func(t *testing.T) { model(t, clustered) })
	}
}

func model(t *testing.T, clustered bool) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	server := natstest.Start(t)
	wire := natstest.NewWire(t, server)
	nc, err := natsx.Connect(natsx.Config{URL: wire.URL, Name: "test"}, natstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	p := runningOver(t, nc, Config{Patience: time.Minute, Recheck: time.Hour})
	p.stream.clustered.Store(clustered)

	const publishers, rounds = 8, 20
	sent := make([][]*modelMessage, publishers)
	ctx, calm := context.WithCancel(t.Context())
	var chaos, load sync.WaitGroup
	chaos.Go(func() { breakWire(ctx, wire, rand.New(rand.NewPCG(seed, 1))) })
	for i := range publishers {
		load.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(2+i)))
			for range rounds {
				sent[i] = append(sent[i], publishSome(t, p, random, i, len(sent[i]))...)
			}
		})
	}
	load.Wait()
	calm()
	chaos.Wait()
	judge(t, sent, storedMessages(t, server.Connect(), p.Epoch()))
}

// breakWire loses answers and connections, until ctx ends.
func breakWire(ctx context.Context, wire *natstest.Wire, random *rand.Rand) {
	defer wire.Deaf.Store(false)
	for ctx.Err() == nil {
		time.Sleep(time.Duration(50+random.IntN(250)) * time.Millisecond)
		wire.Deaf.Store(random.IntN(2) == 0)
		time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
		wire.Cut() // before anything is heard again: half an answer may have been lost
		wire.Deaf.Store(false)
	}
}

// publishSome sends up to 60 messages before it waits for the first, as an array
// does.
func publishSome(t testing.TB, p *Publisher, random *rand.Rand, publisher, n int) (all []*modelMessage) {
	var under []*Delivery
	for range 1 + random.IntN(60) {
		m := &modelMessage{channel: fmt.Sprintf("c%d.%d", publisher, random.IntN(3)),
			data: strconv.Itoa(publisher*1_000_000 + n + len(all))}
		if random.IntN(4) == 0 {
			m.channel = "shared"
		}
		pub := &proto.Publication{Event: "message", Data: []byte(m.data)}
		switch random.IntN(12) {
		case 0, 1, 2:
			m.key = "k" + m.data
		case 3: // one that was sent already
			if len(all) > 0 && all[0].key != "" {
				m.key, m.channel = all[0].key, all[0].channel
			}
		case 4:
			m.ttl = 3600
		case 5:
			m.ephemeral = true
		case 6:
			m.data = `"` + m.data + strings.Repeat("x", 20_000+random.IntN(40_000)) + `"`
			pub.Data = []byte(m.data)
		case 7:
			if random.IntN(20) == 0 { // larger than packs are
				m.data = `"` + m.data + strings.Repeat("x", proto.MaxPackBytes) + `"`
				pub.Data = []byte(m.data)
			}
		}
		pub.ID, pub.TTL, pub.Ephemeral = m.key, m.ttl, m.ephemeral
		under = append(under, p.Send(&Origin{Sender: "p" + strconv.Itoa(publisher), Source: "192.0.2.1"}, pub,
			m.channel, Whole))
		all = append(all, m)
	}
	for i, d := range under {
		res, err := p.Settle(context.Background(), d)
		if err != nil && !all[i].ephemeral {
			t.Errorf("publisher %d: %v", publisher, err)
		}
		all[i].status, all[i].id = res.Status, res.ID
	}
	return all
}

func judge(t *testing.T, sent [][]*modelMessage, stored []storedMessage) {
	t.Helper()
	byID, copies := map[string]storedMessage{}, map[string]int{}
	place := map[string]int{} // of each data in the stream
	for i, m := range stored {
		byID[m.id] = m
		copies[m.data]++
		place[m.data] = i
	}
	want, packs := 0, map[uint64]bool{}
	for _, m := range stored {
		packs[m.pack] = true
	}
	for publisher, all := range sent {
		newest := map[string]int{}
		firsts := map[string]string{} // the id of each key
		for _, m := range all {
			if m.ephemeral {
				if copies[m.data] != 0 || m.id != "" {
					t.Errorf("an ephemeral message is stored, or has the id %q", m.id)
				}
				continue
			}
			got := byID[m.id]
			again := m.key != "" && firsts[m.key] != ""
			switch {
			case m.status != proto.StatusStored && m.status != proto.StatusDuplicate,
				m.status == proto.StatusDuplicate && m.key == "":
				t.Errorf("publisher %d: %.20s is %s", publisher, m.data, m.status)
			case again && (m.id != firsts[m.key] || copies[m.data] != 0):
				t.Errorf("publisher %d: key %s has the ids %s and %s", publisher, m.key, firsts[m.key], m.id)
			case again:
			case got.data != m.data || got.channel != m.channel || (got.expires != 0) != (m.ttl != 0):
				t.Errorf("publisher %d: %s is %.20q on %q, want %.20q on %q", publisher, m.id, got.data, got.channel,
					m.data, m.channel)
			case copies[m.data] != 1:
				t.Errorf("publisher %d: %.20s is stored %d times", publisher, m.data, copies[m.data])
			case place[m.data] < newest[m.channel]:
				t.Errorf("publisher %d: %.20s stands before an earlier message of %s", publisher, m.data, m.channel)
			}
			if !again {
				want++
				newest[m.channel] = place[m.data]
			}
			if m.key != "" && !again {
				firsts[m.key] = m.id
			}
		}
	}
	if len(stored) != want {
		t.Errorf("the stream has %d messages, want %d", len(stored), want)
	}
	t.Logf("%d messages in %d packs", len(stored), len(packs))
}
