package natsx

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/monotonic"
	"github.com/herald-push/herald/services/internal/natsd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A connection whose server no longer knows the stream moves on, once in a
// while, and to nowhere if there is no other.
func TestPulse(t *testing.T) {
	url := func() string {
		s, err := natsd.Start(natsd.Config{Dir: t.TempDir(), Port: -1, User: "u", Password: "p"},
			slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Shutdown)
		return s.URL()
	}
	one, other := url(), url()
	for name, servers := range map[string]string{"one server": one, "two": one + "," + other} {
		t.Run(name, func(t *testing.T) {
			back := make(chan struct{}, 10)
			nc, err := nats.Connect(servers, nats.UserInfo("u", "p"), nats.DontRandomize(),
				nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			var out strings.Builder // only this goroutine logs
			p := NewPulse(nc, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
			p.Missed(errors.New("once"))
			if err := p.Err(); err != nil || out.Len() > 0 {
				t.Errorf("after one missed answer: got %v, log %q", err, out.String())
			}
			p.alive.Store(monotonic.Now() - int64(StreamLate))
			if err := p.Err(); err == nil || !strings.Contains(err.Error(), "has not answered for 15s") {
				t.Errorf("got %v, want that it has not answered for 15s", err)
			}
			p.Missed(errors.New("again"))
			p.Missed(errors.New("and again"))
			if n := strings.Count(out.String(), "level=WARN"); n != 1 {
				t.Errorf("got %d warnings, want one each %s: %s", n, StreamLate, out.String())
			}
			if name == "two" {
				<-back
				if got := nc.ConnectedUrl(); got != other {
					t.Errorf("connected to %s, want %s", got, other)
				}
			} else if nc.Stats().Reconnects > 0 || !strings.Contains(out.String(), "no other") {
				t.Errorf("left the only server: %s", out.String())
			}
			p.Alive()
			if err := p.Err(); err != nil {
				t.Errorf("after a sign of life: %v", err)
			}
		})
	}
}

// Only an answer that most of the servers stand behind is a sign of life.
func TestPulseAnswered(t *testing.T) {
	peer := func(offline bool, active time.Duration) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Offline: offline, Active: active}
	}
	near, far := peer(false, time.Second), peer(false, time.Minute)
	gone := peer(true, time.Second)
	for name, tc := range map[string]struct {
		cluster *jetstream.ClusterInfo
		alive   bool
	}{
		"a single server":  {nil, true},
		"one replica":      {&jetstream.ClusterInfo{Leader: "a"}, true},
		"all of three":     {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{near, near}}, true},
		"two of three":     {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{near, gone}}, true},
		"no leader":        {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{near, near}}, false},
		"a leader cut off": {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{far, far}}, false},
		"two of five": {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{near, gone, far, far}},
			false},
	} {
		p := NewPulse(&nats.Conn{}, slog.New(slog.DiscardHandler)) // not connected: it has nowhere to move from
		p.alive.Store(monotonic.Now() - int64(StreamLate))
		p.Answered(tc.cluster)
		if alive := p.Err() == nil; alive != tc.alive {
			t.Errorf("%s: alive %t, want %t", name, alive, tc.alive)
		}
	}
}
