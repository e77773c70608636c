package conn_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/gateway/internal/conn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Silent clients are pinged; who answers stays, who does not is told why it
// goes.
func TestHeartbeat(t *testing.T) {
	const heartbeat = 4 * time.Second // a busy machine may stop for seconds
	forms(t, conn.Config{Heartbeat: heartbeat}, func(t *testing.T, s *server) {
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

// Drain says goodbye to everybody, to nobody early, and to newcomers that they
// are too late.
func TestDrain(t *testing.T) {
	forms(t, conn.Config{}, func(t *testing.T, s *server) {
		const clients, window = 20, 400 * time.Millisecond
		var running sync.WaitGroup
		told := make(chan time.Time, clients)
		for range clients {
			p, _ := s.connect()
			running.Go(func() {
				op, payload, err := p.read()
				told <- time.Now()
				if want := closeFrame(proto.CloseGoingAway)[2:]; err != nil || op != opClose ||
					string(payload) != string(want) {
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
		if resp, err := http.ReadResponse(late.br, nil); err != nil ||
			resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a newcomer got %v, %v; want 503", resp, err)
		}
		if n := s.set.Len(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// A drain that is cut short tells the rest at once.
func TestDrainCutShort(t *testing.T) {
	s := newServer(t, conn.Config{}, "tcp", false)
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
		forms(t, conn.Config{}, func(t *testing.T, s *server) {
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
	_, _ = p.nc.Write(masked(opClose, payload)) // it may be late
	return nil
}

// The metrics count clients in and out, by the code with which they ended.
func TestMetrics(t *testing.T) {
	const clients, slow = 30, 15
	reg := prometheus.NewRegistry()
	set := conn.NewSet(conn.Config{Heartbeat: 25 * time.Second, MaxQueueBytes: 1 << 20, Blocking: true}, reg)
	s := &server{t: t, set: set, conns: make(chan *conn.Conn, 1), codes: make(chan proto.CloseCode, clients)}
	var fakes []*fake
	var conns []*conn.Conn
	for range clients {
		f := &fake{room: -1}
		conns = append(conns, s.attach(f))
		fakes = append(fakes, f)
	}
	want := func(open, ended, slow int) {
		t.Helper()
		metrics := `# HELP herald_gateway_connections Clients connected now.
# TYPE herald_gateway_connections gauge
herald_gateway_connections %d
# HELP herald_gateway_connections_closed_total Connections ended since the start, by the name of the close code.
# TYPE herald_gateway_connections_closed_total counter
`
		if ended > 0 {
			metrics += fmt.Sprintf("herald_gateway_connections_closed_total{code=\"normal\"} %d\n", ended)
		}
		if slow > 0 {
			metrics += fmt.Sprintf("herald_gateway_connections_closed_total{code=\"slow-consumer\"} %d\n", slow)
		}
		metrics += `# HELP herald_gateway_connections_opened_total Connections accepted since the start.
# TYPE herald_gateway_connections_opened_total counter
herald_gateway_connections_opened_total %d
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf(metrics, open, clients))); err != nil ||
			set.Len() != open {
			t.Errorf("%d connections: %v", set.Len(), err)
		}
	}
	for n, i := range random(t).Perm(clients) {
		if n < slow {
			conns[i].Close(proto.CloseSlowConsumer)
			fakes[i].hangUp()
		} else {
			fakes[i].hangUp()
		}
		s.ended()
	}
	want(0, clients-slow, slow)
	set.Wait()
}

// A connection ends when it was told to, and not before: by the wheel where
// that is further away than a round, and at the later time where it was put off.
func TestExpire(t *testing.T) {
	t.Parallel() // it waits more than it works
	// A round of one second.
	s := newServer(t, conn.Config{Heartbeat: 2 * time.Second, HeartbeatWait: time.Minute}, "tcp", false)
	const soon, later = 2 * time.Second, 4200 * time.Millisecond // a busy machine may stop for seconds
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
				t.Errorf("it ended with %v after %s, want %v after %s", conn.Reason(), took, proto.CloseTokenExpired,
					c.want)
			}
		})
	}
}
