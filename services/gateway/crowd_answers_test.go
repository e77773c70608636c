package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/herald-push/herald/services/gateway/internal/socket"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/auth"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natstest"
)

// void is a socket that takes everything and from which nothing comes.
type void struct{}

func (void) Write(b []byte) (int, bool, error) { return len(b), false, nil }
func (void) CloseWrite() error                 { return nil }
func (void) Close()                            {}
func (void) Watch(socket.Owner) (bool, error)  { return false, nil }
func (void) Read([]byte) (int, error)          { return 0, socket.ErrNothing }

// load adds n clients without sockets, each with a user, an address and a channel of its own.
func (g *gate) load(n int) {
	g.t.Helper()
	before := g.conns.Len()
	for i := range n {
		c := &session{s: g.Service, asked: &request{channels: []string{fmt.Sprintf("user.%d", i)}},
			words: g.frames.plain}
		c.followed = c.first[:0]
		c.who.Store(&auth.Principal{Name: fmt.Sprintf("user-%d", i), Channels: []string{">"}})
		c.anonymous = true // no expiry
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if err := g.conns.Attach(&c.conn, void{}, address, httpx.NewID(), c.words.format); err != nil {
			g.t.Fatal(err)
		}
		c.conn.Start(c)
	}
	natstest.Eventually(g.t, time.Minute, "all are there", func() bool {
		g.ips.mu.Lock()
		defer g.ips.mu.Unlock()
		return g.ips.online == before+n
	})
	natstest.Eventually(g.t, time.Minute, "all follow their channels", func() bool {
		n, err := g.hub.Followers(g.t.Context(), fmt.Sprintf("user.%d", n-1))
		return err == nil && n == 1 && int(ask.Counted(g.hub.Subscriptions())) >= n
	})
}

// Pages of two gateways have every connection once, in order, whatever they are sorted by.
func TestPagesOfConnections(t *testing.T) {
	const each = 700
	b := newBroker(t)
	c := b.asker()
	quiet := func(c *Config) { c.Heartbeat = time.Hour } // a ping between two pages would change what was sent
	gates := []*gate{b.gateway(quiet), b.gateway(quiet)}
	for _, g := range gates {
		g.load(each)
		told[ask.GatewayStats](g, c, ask.Stats, nil)
	}
	for _, by := range []string{"since", "-address", "user", "-queued", "sent", "channels"} {
		order, err := ask.ParseOrder(by, ask.ConnectionOrders...)
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for _, g := range gates {
			var rows []ask.Connection
			for q := (ask.ConnectionsQuestion{Sort: by, Limit: 300}); ; {
				p := told[ask.ConnectionsPage](g, c, ask.Connections, q)
				if rows = append(rows, p.Rows...); p.Next == "" {
					break
				}
				q.Cursor = p.Next
			}
			for _, row := range rows {
				ids[row.ID] = true
			}
			if len(rows) != each ||
				!slices.IsSortedFunc(rows,
					func(a, b ask.Connection) int { return order.Compare(a.Key(order.By), b.Key(order.By)) }) {
				t.Errorf("%s: %d rows in pages, or not in order", by, len(rows))
			}
		}
		if len(ids) != 2*each {
			t.Errorf("%s: %d connections in all", by, len(ids))
		}
	}
}

// Benchmark100kConnections is how long answers take that look at a hundred thousand connections.
func Benchmark100kConnections(b *testing.B) {
	br := newBroker(b)
	g, c := br.gateway(), br.asker()
	g.load(100_000)
	told[ask.GatewayStats](g, c, ask.Stats, nil)
	for name, q := range map[string]ask.ConnectionsQuestion{
		"first": {}, "address": {Sort: "address"}, "user": {User: "user-77777"}, "text": {Text: "user.77777"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				told[ask.ConnectionsPage](g, c, ask.Connections, q)
			}
		})
	}
	b.Run("channels", func(b *testing.B) {
		for b.Loop() {
			told[ask.TallyPage](g, c, ask.Channels, nil)
		}
	})
	b.Run("addresses", func(b *testing.B) {
		for b.Loop() {
			told[ask.TallyPage](g, c, ask.Addresses, nil)
		}
	})
}
