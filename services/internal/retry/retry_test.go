package retry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each reason of a row is logged once, in the order in which they came, and every error is counted.
func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := []error{errors.New("away"), errors.New("away"), errors.New("too old"), errors.New("away"), nil}
		begin, tries, counted := time.Now(), 0, 0
		var logged []string
		p := Policy{Pause: time.Second, Log: func(err error) { logged = append(logged, err.Error()) },
			Every: func(error) { counted++ }}
		err := p.Until(t.Context(), func(context.Context) error { tries++; return errs[tries-1] })
		if err != nil || tries != 5 || counted != 4 || !slices.Equal(logged, []string{"away", "too old"}) {
			t.Errorf("got %v after %d tries, %d errors, logged %q; want 5 tries, 4 errors, each reason once", err,
				tries, counted, logged)
		}
		if took := time.Since(begin); took != 4*time.Second {
			t.Errorf("took %s, want a second after each error", took)
		}
	})
}

func TestUntilWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, tries := time.Now(), 0
		p := Policy{Pause: time.Second, Most: 3 * time.Second}
		if err := p.Until(t.Context(), func(context.Context) error {
			if tries++; tries == 5 {
				return nil
			}
			return errors.New("away")
		}); err != nil || time.Since(begin) != (1+2+3+3)*time.Second {
			t.Errorf("got %v after %s, want pauses of 1, 2, 3 and 3 s", err, time.Since(begin))
		}
	})
}

// What must not be logged now is logged when it may be and still fails.
func TestWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries, logged := 0, 0
		p := Policy{Pause: time.Second, Log: func(error) { logged = tries }, Where: func() bool { return tries > 3 }}
		if err := p.Until(t.Context(), func(context.Context) error {
			if tries++; tries == 6 {
				return nil
			}
			return errors.New("away")
		}); err != nil || logged != 4 {
			t.Errorf("got %v, logged at try %d, want 4", err, logged)
		}
	})
}

func TestForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5500*time.Millisecond)
		defer cancel()
		tries, logged := 0, 0
		Policy{Pause: time.Second, Log: func(error) { logged++ }}.Forever(ctx, func(context.Context) error {
			if tries++; tries == 3 {
				return nil // ends the first row
			}
			return errors.New("full")
		})
		if tries != 6 || logged != 2 {
			t.Errorf("got %d tries and %d lines, want 6 tries, and a line for each of two rows", tries, logged)
		}
	})
}

// The end of the context ends a pause, and its error is the result.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		err := Policy{Pause: time.Hour}.Until(ctx, func(context.Context) error { return errors.New("away") })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("got %v after %s, want the deadline after a minute", err, time.Since(begin))
		}
		logged := 0
		err = Policy{Log: func(error) { logged++ }}.Until(ctx, func(ctx context.Context) error { return ctx.Err() })
		if !errors.Is(err, context.DeadlineExceeded) || logged != 0 {
			t.Errorf("a context that has ended: got %v and %d lines, want its error and none", err, logged)
		}
	})
}

// An error whose text changes at each try does not fill the log.
func TestRow(t *testing.T) {
	var r Row
	logged := 0
	for port := range 100 {
		if r.New(fmt.Errorf("dial from port %d", port)) {
			logged++
		}
	}
	if logged != reasonsOfARow || !r.End() || r.End() || !r.New(errors.New("dial from port 1")) {
		t.Errorf("got %d lines, want %d, and a new row after the end", logged, reasonsOfARow)
	}
}
