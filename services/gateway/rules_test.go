package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"testing"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/config"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/settings"
)

// administrator stores settings for gateways that follow them.
type administrator struct {
	*settings.Store
	t    *testing.T
	live *settings.Live
}

// administrator has gateways that start from now on follow its settings.
func (b *broker) administrator(t *testing.T) *administrator {
	t.Helper()
	store, err := settings.Make(t.Context(), b.js, 1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	table := cfg.Settings()
	env := func(string) (string, bool) { return "", false }
	if _, err := config.Parse("gateway", nil, env, nil, &bytes.Buffer{}, table); err != nil {
		t.Fatal(err)
	}
	b.settings = settings.New(table, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.settings.Run(ctx, b.nc) }() // ends with stop
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &administrator{Store: store, t: t, live: b.settings}
}

// set stores a value and waits until it acts.
func (a *administrator) set(name, value string) {
	a.t.Helper()
	if err := a.Set(a.t.Context(), name, value); err != nil {
		a.t.Fatal(err)
	}
	natstest.Eventually(a.t, patience, name+" acts", func() bool {
		for _, d := range a.live.Describe() {
			if d.Name == name {
				return d.Value == value && d.Source == config.FromConsole
			}
		}
		return false
	})
}

// What an administrator changes acts on who comes from then on, without a restart, and
// on a gateway that starts later.
func TestRulesThatChange(t *testing.T) {
	b := newBroker(t)
	a := b.administrator(t)
	g := b.gateway(func(c *Config) { c.AnonymousChannels = []string{proto.Broadcast, "public.>"} })
	page := func(g *gate, want bool) {
		t.Helper()
		c, _, err := g.try("", http.Header{"Origin": {"https://app.example"}})
		if allowed := err == nil; allowed != want {
			t.Errorf("a page of another origin: got %v, want it allowed: %t", err, want)
		}
		if c != nil {
			c.want(proto.FrameWelcome)
		}
	}
	follows := func(c *client, name string, want bool) {
		t.Helper()
		c.send(`{"type":"subscribe","channels":["%s"]}`, name)
		kind := proto.FrameError
		if want {
			kind = proto.FrameSubscribed
		}
		c.want(kind)
	}
	page(g, false)
	c := g.dial("")
	c.want(proto.FrameWelcome)
	follows(c, "orders.eu", false)
	a.set("allowed-origins", "https://app.example")
	a.set("anonymous-channels", "broadcast,orders.>")
	page(g, true)
	follows(c, "orders.eu", true)
	follows(c, "public.news", false)
	a.set("max-connections-per-ip", "2")
	third, _, err := g.try("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, last := third.closed(); code != proto.CloseTooManyConnections {
		t.Errorf("over the new limit, with two that are there and stay: got %d after %s", code, last.raw)
	}
	a.set("connection-limit-dry-run", "true")
	g.dial("").want(proto.FrameWelcome)
	later := b.gateway(func(c *Config) { c.AnonymousChannels = []string{proto.Broadcast, "public.>"} })
	page(later, true)
	if err := a.Unset(t.Context(), "allowed-origins"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, patience, "the origin is refused again",
		func() bool { return len(g.rules.Load().origins.exact) == 0 })
	page(g, false)
}
