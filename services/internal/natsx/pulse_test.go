package natsx

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/natsd"
	"github.com/nats-io/nats.go"
)

// A connection whose server no longer knows the stream moves on, once in a
// while, and to nowhere if there is no other.
func TestPulse(t *testing.T) {
	url := func() string {
		s, err := natsd.Start(natsd.Config{Dir: t.TempDir(), Port: -1, User: "u", Password: "p"}, slog.New(slog.DiscardHandler))
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
			nc, err := nats.Connect(servers, nats.UserInfo("u", "p"), nats.DontRandomize(), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
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
			p.alive.Store(time.Now().Add(-StreamLate).UnixNano())
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
