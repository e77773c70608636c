package gateway

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
	"github.com/herald-push/herald/services/internal/natstest"
)

func TestGroup(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:3::1":      "2001:db8:1:3::/64",
		"::1":                  "::/64",
	} {
		if got := httpx.AddressGroup(netip.MustParseAddr(ip)).String(); got != want {
			t.Errorf("%s: got %s, want %s", ip, got, want)
		}
	}
	l := newPerIP(2, false)
	if a := l.add(netip.Addr{}); !a.ok { // never seen over TCP, and no reason to panic
		t.Error("an unknown address may not connect at all")
	}
	for i, c := range []struct {
		ip            string
		total, online int
		ok            bool
	}{{"192.0.2.1", 1, 2, true}, {"192.0.2.1", 2, 3, true}, {"192.0.2.1", 2, 3, false}, {"192.0.2.2", 1, 4, true},
		{"2001:db8::1", 1, 5, true}, {"2001:db8::2", 2, 6, true}, {"2001:db8::3", 2, 6, false}} {
		want := admission{total: c.total, online: c.online, ok: c.ok, over: !c.ok}
		if a := l.add(netip.MustParseAddr(c.ip)); a != want {
			t.Errorf("%d, %s: got %+v, want %+v", i, c.ip, a, want)
		}
	}
	for _, ip := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::9", "2001:db8::1"} {
		l.remove(netip.MustParseAddr(ip))
	}
	if remaining, online := l.remove(netip.Addr{}); remaining != 0 || online != 0 || len(l.count) != 0 {
		t.Errorf("at the end: %d, %d online, %d groups", remaining, online, len(l.count))
	}
}

// The limit holds per client address: behind a trusted proxy that is the one
// the proxy names, else the socket's.
func TestConnectionsPerIP(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) {
		c.MaxPerIP = 2
		if err := c.TrustedProxies.UnmarshalText([]byte("127.0.0.1")); err != nil {
			t.Fatal(err)
		}
	})
	from := func(forwarded string) *client {
		t.Helper()
		c, _, err := g.try("", http.Header{"X-Forwarded-For": {forwarded}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	refused := func(forwarded string) {
		t.Helper()
		code, last := from(forwarded).closed()
		if code != proto.CloseTooManyConnections || last.Code != code.String() ||
			last.Detail != "this IP address has 2 connections already" {
			t.Errorf("%s: got %d after %s", forwarded, code, last.raw)
		}
	}
	first := from("192.0.2.1")
	first.want(proto.FrameWelcome)
	from("192.0.2.1").want(proto.FrameWelcome)
	refused("192.0.2.1")
	refused("8.8.8.8, 192.0.2.1") // what stands further left is the client's own invention
	from("192.0.2.2").want(proto.FrameWelcome)
	from("2001:db8:1:2::1").want(proto.FrameWelcome)
	from("2001:db8:1:2:ffff::2").want(proto.FrameWelcome)
	refused("2001:db8:1:2::3")
	from("2001:db8:1:3::1").want(proto.FrameWelcome)

	_ = first.ws.Close()
	natstest.Eventually(t, patience, "the first has left",
		func() bool { return len(g.log.With("client disconnected")) == 1 })
	from("192.0.2.1").want(proto.FrameWelcome)
	refused("192.0.2.1")
}

// Nobody is believed who is no proxy.
func TestForwardedByNobody(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.MaxPerIP = 1 })
	g.connect("")
	c, _, err := g.try("", http.Header{"X-Forwarded-For": {"192.0.2.99"}})
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := c.closed(); code != proto.CloseTooManyConnections {
		t.Errorf("got %d", code)
	}
}

// What the predecessor logged, by these names.
func TestConnectionLog(t *testing.T) {
	b := newBroker(t)
	g := b.gateway()
	one, w := g.connect("channel=secret.channel")
	g.connect("")
	lines := g.log.With("client connected")
	if len(lines) != 2 {
		t.Fatalf("got %d lines", len(lines))
	}
	for i, line := range lines {
		if line["remote"] != "127.0.0.1" || line["ip_connections"] != float64(i+1) || line["online"] != float64(i+1) ||
			line["level"] != "INFO" {
			t.Errorf("connect %d: got %v", i, line)
		}
	}
	if lines[0]["conn"] != w.Connection {
		t.Errorf("conn: got %v, want %s", lines[0]["conn"], w.Connection)
	}
	_ = one.ws.Close()
	natstest.Eventually(t, patience, "the first has left",
		func() bool { return len(g.log.With("client disconnected")) == 1 })
	line := g.log.With("client disconnected")[0]
	if line["conn"] != w.Connection || line["remote"] != "127.0.0.1" || line["ip_connections"] != 1.0 ||
		line["online"] != 1.0 || line["reason"] != "normal" || line["took"] == nil {
		t.Errorf("disconnect: got %v", line)
	}
}
