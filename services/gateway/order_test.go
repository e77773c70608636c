package gateway

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
)

// Every client gets every message once, in stream order.
func TestOrder(t *testing.T) {
	const messages, clients = 10_000, 50
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.MaxQueueBytes = 16 << 20 })
	var running sync.WaitGroup
	for i := range clients {
		c, _ := g.connect(channels([]string{"a.*", ">", "*.x"}[i%3]))
		if _, _, err := c.ws.ReadMessage(); err != nil { // subscribed
			t.Fatal(err)
		}
		running.Go(func() {
			seq, step := uint64(1), uint64(1)
			if i%3 == 2 {
				step = 2
			}
			for ; seq <= messages; seq += step {
				_ = c.ws.SetReadDeadline(time.Now().Add(patience))
				_, got, err := c.ws.ReadMessage()
				for err == nil && bytes.HasPrefix(got, []byte(`{"type":"position"`)) { // comes now and then
					_, got, err = c.ws.ReadMessage()
				}
				if err != nil || !bytes.HasPrefix(got, []byte(`{"id":"`+b.id(seq)+`",`)) {
					t.Errorf("client %d: got %.100s, %v; want id %s", i, got, err, b.id(seq))
					return
				}
			}
		})
	}
	b.publishMany(messages, "a.x", "a.y")
	running.Wait()
}

// history is what was stored, as the publishers know it.
type history struct {
	mu  sync.Mutex
	all map[uint64]string // guarded by mu; sequence → channel
}

func (h *history) add(seq uint64, channel string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[seq] = channel
}

// after are the sequences after since that these names take in.
func (h *history) after(since uint64, names []string) (out []uint64) {
	for _, seq := range slices.Sorted(maps.Keys(h.all)) {
		if seq > since && proto.MatchAny(names, h.all[seq]) {
			out = append(out, seq)
		}
	}
	return out
}

// wanderer is a client that leaves and comes back, to one gateway or another,
// until it has seen the message that says that it is over.
type wanderer struct {
	t     *testing.T
	r     *rand.Rand
	names []string
	since string
	begin uint64
	got   []uint64
	over  bool
	count int // visits
}

const theEnd = "the.end"

// visit connects, reads some messages, and leaves in one way or another.
func (w *wanderer) visit(g *gate) error {
	query := channels(append(w.names, theEnd)...)
	if w.since != "" {
		query += "&since=" + w.since
	}
	c, _, err := g.try(query, nil)
	if err != nil {
		return nil // it is draining; the next visit goes elsewhere
	}
	defer func() { _ = c.ws.Close() }()
	f, err := c.read()
	if err != nil {
		if websocket.IsCloseError(err, int(proto.CloseGoingAway)) {
			return nil // it began to drain between the handshake and the welcome
		}
		return fmt.Errorf("instead of a welcome: %w", err)
	}
	cur, err := proto.ParseCursor(f.ID)
	if err != nil || f.Type != proto.FrameWelcome || f.Resumed != (w.since != "") {
		return fmt.Errorf("welcome since %q: %s, %w", w.since, f.raw, err)
	}
	if w.since == "" {
		w.since, w.begin = f.ID, cur.Seq
	}
	w.count++
	for range 1 + w.r.IntN(20)*w.r.IntN(20) {
		f, err := c.read()
		if websocket.IsCloseError(err, int(proto.CloseGoingAway), int(proto.CloseSlowConsumer)) {
			return nil
		}
		cur, perr := proto.ParseCursor(f.ID)
		if err != nil || perr != nil || f.Type != "" {
			return fmt.Errorf("since %s: %s, %w", w.since, f.raw, err)
		}
		w.since = f.ID
		if f.Channel == theEnd {
			w.over = true
			return nil
		}
		w.got = append(w.got, cur.Seq)
	}
	if w.r.IntN(2) == 0 {
		_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""),
			time.Now().Add(time.Second))
	}
	return nil
}

// Clients that come and go, resuming from the newest id that they have, while
// several publish to many channels: none misses a message, none sees one
// twice, all see them in order. One of the gateways is drained and replaced
// now and then.
func TestHammer(t *testing.T) {
	const clients, publishers = 24, 4
	lasts := 6 * time.Second
	r := random(t)
	b := newBroker(t)
	gates := []*gate{b.gateway(), b.gateway(tiny), b.gateway(func(c *Config) { c.RecentMessages = 200 })}
	var mu sync.Mutex // guards gates[2]
	h := &history{all: map[uint64]string{}}
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("%c.%c.%d", 'a'+i%3, 'x'+i%2, i))
	}

	stop := make(chan struct{})
	var publishing, wandering, replacing sync.WaitGroup
	for range publishers {
		r := rand.New(rand.NewPCG(r.Uint64(), 0))
		publishing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for range 1 + r.IntN(20) {
					channel := names[r.IntN(len(names))]
					h.add(proto.Number(b.publish(channel, "1"), 0), channel)
				}
				time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond) // bursts and pauses
			}
		})
	}
	wanderers := make([]*wanderer, clients)
	for i := range wanderers {
		w := &wanderer{t: t, r: rand.New(rand.NewPCG(r.Uint64(), 0))}
		for range 1 + w.r.IntN(4) {
			w.names = append(w.names, []string{"a.>", "b.*.*", "*.x.*", names[w.r.IntN(30)],
				names[w.r.IntN(30)]}[w.r.IntN(5)])
		}
		wanderers[i] = w
		wandering.Go(func() {
			for !w.over && !t.Failed() {
				mu.Lock()
				g := gates[w.r.IntN(3)]
				mu.Unlock()
				if err := w.visit(g); err != nil {
					t.Errorf("client %d, %q: %v", i, w.names, err)
				}
			}
		})
	}
	replacing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
			fresh := b.gateway(func(c *Config) { c.RecentMessages = 200 })
			mu.Lock()
			old := gates[2]
			gates[2] = fresh
			mu.Unlock()
			if err := old.stop(); err != nil {
				t.Error(err)
			}
		}
	})
	time.Sleep(lasts) // the length of the attempt
	close(stop)
	publishing.Wait()
	replacing.Wait()
	b.publish(theEnd, "1")
	wandering.Wait()
	for i, w := range wanderers {
		if want := h.after(w.begin, w.names); !slices.Equal(w.got, want) {
			t.Errorf("client %d, %q from %d: got %d messages, want %d; first difference: %v", i, w.names,
				w.begin, len(w.got), len(want), firstDifference(w.got, want))
		}
	}
	visits, deliveries := 0, 0
	for _, w := range wanderers {
		visits += w.count
		deliveries += len(w.got)
	}
	t.Logf("%d messages, %d clients, %d visits, %d deliveries", len(h.all), clients, visits, deliveries)
}

func firstDifference(got, want []uint64) string {
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			return fmt.Sprintf("at %d: got %v, want %v", i, got[min(i, len(got)):min(i+3, len(got))],
				want[min(i, len(want)):min(i+3, len(want))])
		}
	}
	return "none"
}
