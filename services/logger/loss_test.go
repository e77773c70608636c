package logger

import (
	"context"
	"testing"
)

// A server that comes back without its newest messages gives their sequences
// to others. The log keeps what it has, and takes none of the others for a
// redelivery: whether it ran meanwhile or not.
func TestLogOfAStreamThatLostItsTail(t *testing.T) {
	for _, c := range []struct {
		name  string
		later int
	}{{"fewer than were lost", 10}, {"more than were lost", 60}} {
		for name, stopped := range map[string]bool{"while it runs": false, "while it is stopped": true} {
			t.Run(c.name+", "+name, func(t *testing.T) {
				w := newWorld(t)
				r := w.startReady()
				first := w.epoch
				w.publish(1, 40)
				r.eventually("logged", func() bool { return r.last(first) == 40 })
				var second string
				w.nats.Forget(func() {
					w.nc = w.nats.Connect()
					w.js, second = w.nats.Stream(w.nc)
					w.publish(41, 20)
					r.eventually("what will be lost is logged", func() bool { return r.last(second) == 60 })
					if stopped {
						r.stop()
					}
				})
				w.nc = w.nats.Connect()
				var third string
				w.js, third = w.nats.Stream(w.nc)
				if stopped {
					r = w.startReady()
				}
				w.publish(1001, c.later)
				r.eventually("what took their place is logged",
					func() bool { return r.last(third) == 40+c.later && r.count() == 60+c.later })
				r.eventually("all is acknowledged",
					func() bool { return r.metric("herald_logger_pending_messages") == 0 })
				if holes := r.metric("herald_logger_holes_total"); holes != 0 {
					t.Errorf("holes: got %v, want 0", holes)
				}
				epochs, err := r.store.Epochs(context.Background())
				if err != nil || len(epochs) != 3 {
					t.Errorf("epochs: got %+v, %v", epochs, err)
				}
			})
		}
	}
}
