// Package servicetest tests what the processes of all services do alike.
package servicetest

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/herald-push/herald/services/internal/config/configtest"
	"github.com/herald-push/herald/services/internal/logtest"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/service"
)

// Fault is a start that fails before anything runs: its arguments, its variables, each followed by its value, and what
// the error says.
type Fault struct {
	Args []string
	Env  []string
	Want []string
}

// Faults tries each of them. What is wrong with settings is told in sentences, all at once.
func Faults(t *testing.T, spec func() service.Spec, faults []Fault) {
	t.Helper()
	for _, f := range faults {
		err := service.Run(t.Context(), spec(), f.Args, configtest.Env(f.Env...), io.Discard, io.Discard)
		if err == nil {
			t.Errorf("%v: no error", f.Args)
			continue
		}
		for _, want := range f.Want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %q does not say %q", f.Args, err, want)
			}
		}
	}
}

// StopsWhileWaiting tells a process that was started with these arguments to stop while it waits for NATS: it ends
// without an error.
func StopsWhileWaiting(t *testing.T, spec func() service.Spec, args ...string) {
	t.Helper()
	args = append(args, "-listen", "127.0.0.1:0", "-nats", "nats://127.0.0.1:1")
	ctx, cancel := context.WithCancel(t.Context())
	var logged logtest.Buffer
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx, spec(), args, configtest.Env(), io.Discard, &logged) }()
	natstest.Eventually(t, 10*time.Second, "waiting for NATS",
		func() bool { return strings.Contains(logged.String(), "NATS cannot be reached") })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v", err)
	}
}
