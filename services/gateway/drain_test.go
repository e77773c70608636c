package gateway

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
)

// A gateway that stops tells its clients one after the other to come back, and
// Run returns when they have left.
func TestDrain(t *testing.T) {
	const clients, window = 20, 300 * time.Millisecond
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.Drain = window })
	var running sync.WaitGroup
	told := make(chan time.Time, clients)
	for range clients {
		c, _ := g.connect("")
		running.Go(func() {
			_, err := c.read()
			told <- time.Now()
			if !websocket.IsCloseError(err, int(proto.CloseGoingAway)) {
				t.Errorf("got %v, want %d", err, proto.CloseGoingAway)
			}
		})
	}
	begin := time.Now()
	if err := g.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	running.Wait()
	close(told)
	var times []time.Duration
	for at := range told {
		times = append(times, at.Sub(begin))
	}
	slices.Sort(times)
	spread := min(window, clients*defaultDrainPace)
	for i, at := range times {
		if earliest := spread*time.Duration(i)/clients - 10*time.Millisecond; at < earliest {
			t.Errorf("client %d was told after %s, want %s at the earliest", i, at, earliest)
		}
	}
	if n := g.ips.online; n != 0 {
		t.Errorf("%d clients are still counted", n)
	}
	if n := len(g.log.With("every client has left")); n != 1 {
		t.Errorf("%d lines say that every client has left", n)
	}
	if _, err := http.Get("http://" + g.Addr().String() + "/healthz"); err == nil {
		t.Error("the listener is still there")
	}
}

// While it drains, a gateway answers, refuses newcomers, and goes on serving
// those whose turn has not come.
func TestWhileDraining(t *testing.T) {
	t.Parallel() // it waits more than it works
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.Drain = time.Minute })
	g.drainPace = 400 * time.Millisecond // eight seconds in all: a busy machine may stop for some
	first, _ := g.connect("")            // told at once, and silent until the end of the test
	var rest []*client
	for range 20 {
		c, _ := g.connect("")
		rest = append(rest, c)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	natstest.Eventually(t, patience, "it drains", g.draining.Load)
	_, resp, err := g.try("", nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a newcomer got %v, %v; want 503", resp, err)
	}
	resp, err = http.Get("http://" + g.Addr().String() + "/readyz")
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %v, %v; want 503", resp, err)
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	last := rest[len(rest)-1]
	last.ids(b.id(b.publish("broadcast", "1")))
	for _, c := range append(rest, first) {
		if code, _ := c.closed(); code != proto.CloseGoingAway {
			t.Errorf("got %d, want %d", code, proto.CloseGoingAway)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// Clients that are sent from one gateway to another in the middle of the
// traffic lose nothing.
func TestDrainLosesNothing(t *testing.T) {
	const clients, messages = 20, 2000
	b := newBroker(t)
	one, two := b.gateway(), b.gateway()
	var running sync.WaitGroup
	for range clients {
		c, w := one.connect("")
		running.Go(func() {
			newest := w.ID
			for seq := uint64(1); seq <= messages; seq++ {
				f, err := c.read()
				if websocket.IsCloseError(err, int(proto.CloseGoingAway)) {
					var cerr error
					if c, _, cerr = two.try("since="+newest, nil); cerr == nil {
						_, cerr = c.read()
					}
					if cerr != nil {
						t.Errorf("come back: %v", cerr)
						return
					}
					f, err = c.read()
				}
				if err != nil || f.ID != b.id(seq) {
					t.Errorf("got %s, %v; want %s", f.raw, err, b.id(seq))
					return
				}
				newest = f.ID
			}
		})
	}
	running.Go(func() {
		if err := one.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	for range messages / 100 {
		b.publishMany(100, "broadcast")
	}
	running.Wait()
}

// A gateway that waits for its stream stops as well.
func TestStopBeforeThereIsAStream(t *testing.T) {
	srv := natstest.Start(t)
	b := &broker{Server: srv, t: t}
	g := b.run(nil)
	if err := g.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// A balancer sees that the gateway is unready before the first client is told
// to leave, and who comes back meanwhile comes elsewhere.
func TestUnreadyBeforeTheFirstGoodbye(t *testing.T) {
	t.Parallel()                   // it waits more than it works
	const delay = 10 * time.Second // a busy machine may stop for seconds
	b := newBroker(t)
	b.shelf()
	g := b.gateway(func(c *Config) { c.DrainDelay = delay })
	g.becomesReady()
	c, _ := g.connect("")
	begin := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	natstest.Eventually(t, patience, "the gateway is unready", func() bool {
		resp, _ := g.call(http.MethodGet, "/readyz", nil)
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	b.publish("broadcast", "1")
	c.want("") // it is served as before
	if code, _ := c.closed(); code != proto.CloseGoingAway || time.Since(begin) < delay {
		t.Errorf("got %v after %s", code, time.Since(begin))
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// Nobody is asked to leave, so nothing is waited for.
func TestNoDelayWithoutClients(t *testing.T) {
	b := newBroker(t)
	g := b.gateway(func(c *Config) { c.DrainDelay = time.Minute })
	if err := g.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}
