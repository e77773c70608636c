package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

func TestShareOfAProcessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newShares(false)
		l.slowness = 1
		one, same, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"),
			netip.MustParseAddr("192.0.2.1")
		if wait := l.pay(one, shareAhead); wait != 0 {
			t.Errorf("work ahead: waits %s", wait)
		}
		const work = 100 * time.Millisecond
		if wait, want := l.pay(same, work), 4*work; wait != want {
			t.Errorf("the same /64: waits %s, want %s", wait, want)
		}
		if wait := l.pay(other, work); wait != 0 {
			t.Errorf("a neighbour waits %s", wait)
		}
		time.Sleep(4 * work)
		if wait := l.pay(one, 0); wait != 0 {
			t.Errorf("after it has waited: waits %s more", wait)
		}
		l.hold(one, 1)
		time.Sleep(time.Hour)
		l.pay(netip.MustParseAddr("192.0.2.2"), 0)
		if len(l.of) != 2 { // one holds memory, and the newest was just made
			t.Errorf("%d addresses are remembered, want 2", len(l.of))
		}
		l = newShares(true)
		if wait := l.pay(one, time.Hour); wait != 0 || !l.hold(one, 1<<40) {
			t.Errorf("without a limit per address: waits %s", wait)
		}
	})
}

// The subscriptions of one address are bounded together, over all of its
// connections, and given back one by one and with the connection.
func TestSubscriptionsOfOneAddress(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.MaxPerIP = 100 })
	const each = 10
	g.shares.mu.Lock()
	g.shares.maxNames = 2 * each * weight("a.000")
	g.shares.mu.Unlock()
	full := func(first int) *client {
		t.Helper()
		var names []string
		for i := range each {
			names = append(names, fmt.Sprintf("a.%03d", first+i))
		}
		c, _ := g.connect(channels(names...))
		return c
	}
	one, two := full(0), full(each)
	refused := func(c *client) {
		t.Helper()
		c.send(`{"type":"subscribe","channel":"b.000"}`)
		if f := c.want(proto.FrameError); f.Code != proto.ErrorLimit || f.Channel != "b.000" ||
			!strings.Contains(f.Detail, "address") {
			t.Errorf("got %s", f.raw)
		}
	}
	refused(one)
	two.send(`{"type":"unsubscribe","channel":"a.010"}`)
	two.want(proto.FrameUnsubscribed)
	two.send(`{"type":"unsubscribe","channel":"a.010"}`) // it is given back once
	two.want(proto.FrameUnsubscribed)
	one.send(`{"type":"subscribe","channel":"b.000"}`)
	one.want(proto.FrameSubscribed)
	one.send(`{"type":"subscribe","channel":"b.000"}`) // a second time costs nothing
	one.want(proto.FrameSubscribed)
	refused(two)
	code, last := g.dial("channel=c").closed()
	if code != proto.CloseOverload || !strings.Contains(last.Detail, "address") {
		t.Errorf("in the URL: got %d after %s", code, last.raw)
	}
	_, _ = one.ws.Close(), two.ws.Close()
	natstest.Eventually(t, patience, "all is given back", func() bool {
		g.shares.mu.Lock()
		defer g.shares.mu.Unlock()
		held := 0
		for _, s := range g.shares.of {
			held += s.names
		}
		return held == 0
	})
}

// What SECURITY.md says a connection with all subscriptions that it may have
// costs in memory: long patterns that share nothing, and many short ones.
func TestSubscriptionsMemory(t *testing.T) {
	for name, pattern := range map[string]func(i int) string{
		"120 tokens":    func(i int) string { return fmt.Sprintf("%04d", i) + strings.Repeat(".*", 119) },
		"shared tokens": func(i int) string { return strings.Repeat("*.", 118) + fmt.Sprintf("%04d", i) },
		"channels":      func(i int) string { return fmt.Sprintf("%04d", i) + strings.Repeat("x", 250) },
	} {
		t.Run(name, func(t *testing.T) {
			const connections = 10 // what else grows in this process is a small part for each
			b := newBroker(t)
			g := b.gateway()
			g.connect("")
			before := inUse()
			for k := range connections {
				c, _ := g.connect("channel=")
				const atOnce = 50 // they fit into a frame
				for batch := range maxFollowed / atOnce {
					var names []string
					for i := range atOnce {
						names = append(names, pattern(k*maxFollowed+batch*atOnce+i))
					}
					c.send(`{"type":"subscribe","channels":%s}`, jsonOf(names))
					for range names {
						c.want(proto.FrameSubscribed)
					}
				}
			}
			costs(t, before, connections, 768<<10)
		})
	}
}
