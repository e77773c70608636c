package publish

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// A pack is lost with the connection, which is made anew before the lane notices: the next message of its channel must
// not be stored before it.
func TestNothingOvertakesWhatAConnectionLost(t *testing.T) {
	server := natstest.Start(t)
	wire := natstest.NewWire(t, server)
	nc, err := natsx.Connect(natsx.Config{URL: wire.URL, Name: "test"}, natstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Stream: natsx.StreamConfig{MaxAge: time.Hour, MaxBytes: 1 << 30}, Patience: time.Minute}
	p, err := New(nc, js, cfg, prometheus.NewRegistry(), natstest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	during(t, p.stream.run)
	natstest.Eventually(t, time.Minute, "the stream is declared", func() bool { return p.Ready() == nil })

	wire.Mute.Store(true)
	all := []*Delivery{p.send("a", "1", "")}
	p.lane.dispatch()
	natstest.Eventually(t, time.Minute, "the pack was written", func() bool {
		n, err := nc.Buffered()
		return err == nil && n == 0
	})
	wire.Cut()
	wire.Mute.Store(false)
	natstest.Eventually(t, time.Minute, "connected again",
		func() bool { return nc.Stats().Reconnects > 0 && nc.IsConnected() })
	all = append(all, p.send("a", "2", "k"))
	during(t, p.lane.run) // it has not heard of the connection
	ids := settleAll(t, p, all)
	stored := storedMessages(t, server.Connect(), p.Epoch())
	if len(stored) != 2 || stored[0].id != ids[0] || stored[1].id != ids[1] {
		t.Errorf("got %+v, want %q", stored, ids)
	}
}

// A write to the socket fails before nats.go knows that the connection is broken: the message waits, as it does while
// NATS is away.
func TestBrokenWrite(t *testing.T) {
	server := natstest.Start(t)
	dialer := &breakable{}
	nc, err := natsx.Connect(natsx.Config{URL: server.URL, Name: "test"}, natstest.Log(t), nats.SetCustomDialer(dialer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	p := runningOver(t, nc, Config{Patience: time.Minute})
	large := `"` + strings.Repeat("x", 60_000) + `"` // more than nats.go keeps before it writes
	dialer.broken.Store(true)
	all := []*Delivery{p.send("a", large, ""), p.send("a", large, "k"), p.send("a", "3", "")}
	p.lane.dispatch()
	for i, d := range all {
		if d.Settled() {
			_, err := p.Settle(t.Context(), d)
			t.Fatalf("message %d does not wait: %v", i, err)
		}
	}
	dialer.broken.Store(false)
	ids := settleAll(t, p, all)
	stored := storedMessages(t, server.Connect(), p.Epoch())
	if len(stored) != 3 || stored[0].id != ids[0] || stored[1].id != ids[1] || stored[2].id != ids[2] {
		t.Errorf("got %d messages, want %q", len(stored), ids)
	}
}

// during runs f until the test ends.
func during(t *testing.T, f func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); f(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// breakable dials connections to which nothing can be written while they are broken.
type breakable struct{ broken atomic.Bool }

func (b *breakable) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &breakableConn{c, b}, err
}

type breakableConn struct {
	net.Conn
	dialer *breakable
}

func (c *breakableConn) Write(b []byte) (int, error) {
	if c.dialer.broken.Load() {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return c.Conn.Write(b)
}
