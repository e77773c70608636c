package natsd

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// nats-server says of a stream that is being made that it could not be recovered: the
// folder is there, and the stream is not known yet. That is a fault only if it lasts, and so is that it accepts no
// connections.
func TestStreamThatIsBeingMade(t *testing.T) {
	made := server.HealthzError{Type: server.HealthzErrorStream, Account: "$G", Stream: "S",
		Error: "JetStream stream '$G > S' could not be recovered"}
	other := server.HealthzError{Type: server.HealthzErrorStream, Account: "$G", Stream: "T",
		Error: "JetStream stream '$G > T' write error: no space left on device"}
	// It waits a millisecond for its own listener.
	busy := server.HealthzError{Type: server.HealthzErrorConn,
		Error: "failed to be ready for connections after 1ms: startup did not complete"}
	u, now := unknown{}, time.Now()
	for i, step := range []struct {
		after time.Duration
		errs  []server.HealthzError
		want  int
	}{
		{0, []server.HealthzError{made}, 0},
		{madeWithin - 1, []server.HealthzError{made, other}, 1}, // a disk that is full counts at once
		{madeWithin, nil, 0},                                    // it was made
		{madeWithin, []server.HealthzError{made}, 0},
		{2 * madeWithin, []server.HealthzError{made}, 1},
		{3 * madeWithin, []server.HealthzError{busy}, 0}, // a busy machine
		{3*madeWithin + 1, nil, 0},
		{4 * madeWithin, []server.HealthzError{busy}, 0},
		{5 * madeWithin, []server.HealthzError{busy}, 1}, // it accepts none
	} {
		if got := u.lasting(step.errs, now.Add(step.after)); len(got) != step.want {
			t.Errorf("step %d: got %v, want %d", i, got, step.want)
		}
	}
}
