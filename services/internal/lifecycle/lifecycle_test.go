package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-push/herald/services/internal/lifecycle"
)

// journal notes what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

// part runs until its context ends and takes that long to stop.
func (j *journal) part(name string, takes time.Duration, err error) lifecycle.Part {
	return lifecycle.Part{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		j.note("%s stops", name)
		time.Sleep(takes)
		j.note("%s has stopped", name)
		return err
	}}
}

var quiet = slog.New(slog.DiscardHandler)

func TestStopsInReverseOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		begin := time.Now()
		err := lifecycle.Run(ctx, quiet, 10*time.Second, j.part("store", time.Second, nil),
			j.part("nats", 2*time.Second, nil), j.part("http", 3*time.Second, nil))
		if err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != time.Minute+6*time.Second {
			t.Errorf("took %s", took)
		}
		want := []string{"http stops", "http has stopped", "nats stops", "nats has stopped", "store stops",
			"store has stopped"}
		if !slices.Equal(j.lines, want) {
			t.Errorf("got %q, want %q", j.lines, want)
		}
	})
}

func TestPartsKeepTheValuesOfTheContext(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
	var got any
	err := lifecycle.Run(ctx, quiet, time.Second, lifecycle.Part{Name: "p", Run: func(ctx context.Context) error {
		got = ctx.Value(key{})
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}})
	if err != nil || got != "v" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestPartThatEndsByItselfStopsTheOthers(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"with an error", boom, "nats ended by itself\nnats: boom"},
		{"without one", nil, "nats ended by itself"},
		{"cancelled by somebody else", context.Canceled, "nats ended by itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				nats := lifecycle.Part{Name: "nats",
					Run: func(context.Context) error { time.Sleep(time.Hour); return c.err }}
				err := lifecycle.Run(t.Context(), quiet, 10*time.Second, j.part("store", time.Second, nil), nats,
					j.part("http", time.Second, nil))
				if err == nil || err.Error() != c.want {
					t.Errorf("got %v, want %q", err, c.want)
				}
				if c.err == boom && !errors.Is(err, boom) {
					t.Errorf("%v does not wrap the part's error", err)
				}
				if want := []string{"http stops", "http has stopped", "store stops",
					"store has stopped"}; !slices.Equal(
					j.lines, want) {
					t.Errorf("got %q, want %q", j.lines, want)
				}
			})
		})
	}
}

func TestErrorsAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		disk, wire := errors.New("disk full"), errors.New("wire cut")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := lifecycle.Run(ctx, quiet, time.Minute,
			j.part("store", 0, disk),
			j.part("cancelled", 0, context.Canceled),
			j.part("wrapped", 0, fmt.Errorf("serve: %w", context.Canceled)),
			j.part("both", 0, errors.Join(context.Canceled, wire)),
			j.part("only", 0, errors.Join(context.Canceled, fmt.Errorf("read: %w", context.Canceled))))
		if !errors.Is(err, disk) || !errors.Is(err, wire) {
			t.Errorf("%v lacks one of the two", err)
		}
		if want := "both: context canceled\nwire cut\nstore: disk full"; err == nil || err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	})
}

// The deadline is one for all. What hangs, what was never told to stop, and
// why it all began are reported.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		boom := errors.New("boom")
		begin := time.Now()
		err := lifecycle.Run(t.Context(), quiet, 5*time.Second,
			j.part("store", 0, nil),
			lifecycle.Part{Name: "nats", Run: func(context.Context) error { return boom }},
			j.part("hangs", time.Hour, nil),
			j.part("http", 4*time.Second, nil))
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("took %s, want 5s", took)
		}
		want := []string{"nats ended by itself", "hangs did not stop within 5s", "nats: boom", "store was left running"}
		if err == nil || !slices.Equal(strings.Split(err.Error(), "\n"), want) || !errors.Is(err, boom) {
			t.Errorf("got %q, want %q", err, want)
		}
		time.Sleep(2 * time.Hour) // it was cancelled all the same
		j.mu.Lock()
		defer j.mu.Unlock()
		if !slices.Contains(j.lines, "hangs has stopped") || !slices.Contains(j.lines, "store has stopped") {
			t.Errorf("left behind for ever: %q", j.lines)
		}
	})
}

func TestNoParts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := lifecycle.Run(ctx, quiet, time.Second); err != nil {
		t.Error(err)
	}
}
