package conn

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Silent clients are pinged; who answers stays, who does not is told why it
// goes.
func TestHeartbeat(t *testing.T) {
	forms(t, Config{Heartbeat: time.Second}, func(t *testing.T, s *server) {
		deaf, _ := s.connect()
		alive, conn := s.connect()
		for range 3 {
			alive.want(opPing, "")
			alive.send(opPong, "")
		}
		if conn.Reason() != 0 {
			t.Errorf("the client that answers: %v", conn.Reason())
		}
		deaf.want(opPing, "")
		if _, code, _ := deaf.untilClose(); code != uint16(proto.CloseHeartbeat) {
			t.Errorf("the client that does not answer: %d", code)
		}
		if code := s.ended(); code != proto.CloseHeartbeat {
			t.Errorf("it ended with %v", code)
		}
	})
}

// Played in invented time: nobody is silent for much longer than the
// heartbeat interval without a ping, nobody is pinged much more often, nobody
// is never pinged, busy as it may be, and only who leaves a ping unanswered
// for the interval is closed.
func TestHeartbeatBounds(t *testing.T) {
	r := random(t)
	for range 300 {
		heartbeat := time.Duration(1+r.IntN(60)) * time.Second
		s := NewSet(Config{Heartbeat: heartbeat, MaxQueueBytes: 1 << 20}, nil)
		round := time.Duration(len(s.slots)) * time.Second
		nc, other := net.Pipe()
		now := time.Unix(1e9, 0)
		c := &Conn{set: s, wire: blocking{nc}, format: webSocket, draining: true} // its queue is only looked at
		c.lastIn.Store(now.UnixNano())
		begin, last, pings, busy := now, now, 0, r.IntN(2) == 0
		for look := now.Add(time.Duration(r.Int64N(int64(round)))); look.Sub(begin) < 50*heartbeat; look = look.Add(round) {
			now = look.Add(time.Duration(r.Int64N(int64(tickSlack / 2))))
			if busy && r.IntN(2) == 0 {
				last = now.Add(-time.Duration(r.Int64N(int64(min(round, now.Sub(last)) + 1))))
				c.lastOut = last.UnixNano()
			}
			c.beat(now, round, heartbeat)
			if silent := now.Sub(last); silent > heartbeat+2*tickSlack {
				t.Fatalf("heartbeat %s: silent for %s", heartbeat, silent)
			}
			if len(c.queue) > 0 {
				pings++
				c.queue, c.queued = nil, 0
				last = now.Add(20 * time.Millisecond) // the pong
				c.lastIn.Store(last.UnixNano())
			}
		}
		if most := 50*int(heartbeat/time.Second)/max(1, int(heartbeat/time.Second)-2) + 1; pings > most || pings < 50/(deafBeats+1) || !busy && pings < 49 {
			t.Errorf("heartbeat %s: %d pings in 50 intervals", heartbeat, pings)
		}
		// And now the client is gone.
		var pinged time.Time
		for ; c.Reason() == 0; now = now.Add(round) {
			c.beat(now, round, heartbeat)
			switch {
			case pinged.IsZero() && len(c.queue) > 0:
				pinged = now
			case c.Reason() == proto.CloseHeartbeat && now.Sub(pinged) < heartbeat-tickSlack:
				t.Errorf("heartbeat %s: closed %s after the ping", heartbeat, now.Sub(pinged))
			case !pinged.IsZero() && now.Sub(pinged) > heartbeat+round:
				t.Fatalf("heartbeat %s: still open %s after the ping", heartbeat, now.Sub(pinged))
			}
		}
		_, _ = nc.Close(), other.Close()
	}
}

// Drain says goodbye to everybody, to nobody early, and to newcomers that they
// are too late.
func TestDrain(t *testing.T) {
	forms(t, Config{}, func(t *testing.T, s *server) {
		const clients, window = 20, 400 * time.Millisecond
		var running sync.WaitGroup
		told := make(chan time.Time, clients)
		for range clients {
			p, _ := s.connect()
			running.Go(func() {
				op, payload, err := p.read()
				told <- time.Now()
				if want := closeFrame(proto.CloseGoingAway)[2:]; err != nil || op != opClose || string(payload) != string(want) {
					t.Errorf("got %#02x %q, %v", op, payload, err)
				}
				_, _ = p.nc.Write(masked(opClose, payload))
			})
		}
		begin := time.Now()
		s.set.Drain(context.Background(), window, proto.CloseGoingAway)
		s.set.Wait()
		running.Wait()
		close(told)
		var times []time.Duration
		for at := range told {
			times = append(times, at.Sub(begin))
		}
		slices.Sort(times)
		for i, at := range times {
			if earliest := window*time.Duration(i)/clients - 10*time.Millisecond; at < earliest {
				t.Errorf("client %d was told after %s, want %s at the earliest", i, at, earliest)
			}
		}
		late := s.dial()
		late.write([]byte(handshake))
		if resp, err := http.ReadResponse(late.br, nil); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a newcomer got %v, %v; want 503", resp, err)
		}
		if n := s.set.Len(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// A drain that is cut short tells the rest at once.
func TestDrainCutShort(t *testing.T) {
	s := newServer(t, Config{}, "tcp", false)
	peers := make([]*peer, 5)
	for i := range peers {
		peers[i], _ = s.connect()
	}
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan struct{})
	go func() { defer close(drained); s.set.Drain(ctx, time.Hour, proto.CloseRestart) }()
	peers[0].untilClose()
	cancel()
	<-drained
	for _, p := range peers[1:] {
		if _, code, _ := p.untilClose(); code != uint16(proto.CloseRestart) {
			t.Errorf("got %d", code)
		}
	}
}

// Clients that come while the set drains get an answer or a goodbye, and
// nothing of them is left when Wait returns.
func TestAcceptWhileDraining(t *testing.T) {
	for range 10 {
		forms(t, Config{}, func(t *testing.T, s *server) {
			const clients = 20
			var running sync.WaitGroup
			for i := range clients {
				p := s.dial()
				running.Go(func() {
					time.Sleep(time.Duration(i) * 100 * time.Microsecond) // a stagger, not a wait
					if err := p.visit(); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(time.Millisecond)
			s.set.Drain(context.Background(), time.Millisecond, proto.CloseGoingAway)
			s.set.Wait()
			if n := s.set.Len(); n != 0 {
				t.Errorf("%d connections are left", n)
			}
			running.Wait()
		})
	}
}

// visit is a client that comes during a drain.
func (p *peer) visit() error {
	if _, err := p.nc.Write([]byte(handshake)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.br, nil)
	if err != nil || resp.StatusCode == http.StatusServiceUnavailable {
		return err
	}
	op, payload, err := p.read()
	if want := closeFrame(proto.CloseGoingAway)[2:]; err != nil || op != opClose || string(payload) != string(want) {
		return fmt.Errorf("got %#02x %q, %v; want the goodbye", op, payload, err)
	}
	_, err = p.nc.Write(masked(opClose, payload))
	return err
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := NewSet(Config{Heartbeat: 25 * time.Second}, reg)
	var conns []*Conn
	for range 30 {
		c := new(Conn)
		s.begin(c, "x", local, webSocket)
		if !s.reserve() || s.add(c) {
			t.Fatal("the set takes nobody")
		}
		s.wg.Done()
		conns = append(conns, c)
	}
	for i, slot := range s.slots {
		if len(slot) < 2 || len(slot) > 3 {
			t.Errorf("slot %d has %d of 30 connections", i, len(slot))
		}
	}
	for n, i := range random(t).Perm(len(conns)) {
		if n%2 == 0 {
			conns[i].code = proto.CloseSlowConsumer
		}
		s.remove(conns[i])
		for _, slot := range s.slots {
			for place, c := range slot {
				if int(c.place) != place {
					t.Fatalf("a connection at %d believes to be at %d", place, c.place)
				}
			}
		}
	}
	if open, opened := testutil.ToFloat64(s.m.open), testutil.ToFloat64(s.m.opened); open != 0 || opened != 30 || s.Len() != 0 {
		t.Errorf("got %v open, %v opened, length %d", open, opened, s.Len())
	}
	if slow := testutil.ToFloat64(s.m.closed.WithLabelValues("slow-consumer")); slow != 15 {
		t.Errorf("got %v slow ones, want 15", slow)
	}
}

// A connection ends when it was told to, and not before: by the wheel where
// that is further away than a round, and at the later time where it was put off.
func TestExpire(t *testing.T) {
	s := newServer(t, Config{Heartbeat: 2 * time.Second}, "tcp", false) // a round of one second
	const soon, later = 200 * time.Millisecond, 2200 * time.Millisecond
	for _, c := range []struct {
		name string
		at   []time.Duration // from now, one call after the other
		want time.Duration
	}{
		{"within a round", []time.Duration{soon}, soon},
		{"further away", []time.Duration{later}, later},
		{"put off", []time.Duration{soon, later}, later},
		{"brought forward", []time.Duration{later, soon}, soon},
		{"past already", []time.Duration{-time.Hour}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, conn := s.connect()
			begin := time.Now()
			for _, d := range c.at {
				conn.Expire(begin.Add(d))
			}
			eventually(t, "it has expired", func() bool { return conn.Reason() != 0 })
			if took := time.Since(begin); conn.Reason() != proto.CloseTokenExpired || took < c.want {
				t.Errorf("it ended with %v after %s, want %v after %s", conn.Reason(), took, proto.CloseTokenExpired, c.want)
			}
		})
	}
}
