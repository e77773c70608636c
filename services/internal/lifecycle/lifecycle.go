// Package lifecycle starts the parts of a process in order, stops them in
// reverse, and waits for each under one deadline.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Part is something that runs: Run blocks until its context ends or it
// cannot go on, and returns only when everything it started has ended.
type Part struct {
	Name string
	Run  func(ctx context.Context) error
}

// Run starts the parts in order, without waiting for one to be ready before it
// starts the next, and blocks until ctx ends or one part returns. Then it stops
// them one after the other in reverse order, each only after the later ones
// have returned: what depends on a part is gone before the part is. Parts that
// are still running after timeout (for all of them together) are reported and
// left behind.
//
// The error joins those of all parts; that a context was cancelled is none. A
// part that returns nil before ctx ended is an error too: parts run as long as
// the process does.
func Run(ctx context.Context, log *slog.Logger, timeout time.Duration, parts ...Part) error {
	type running struct {
		Part
		cancel context.CancelFunc
		done   chan struct{} // closed by the part's goroutine, after err is set
		err    error
	}
	ended := make(chan string, len(parts)) // never closed; one slot a part
	var started []*running
	for _, p := range parts {
		pctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{Part: p, cancel: cancel, done: make(chan struct{})}
		started = append(started, r)
		go func() { // ends with r.Run; waited for below
			r.err = r.Run(pctx)
			close(r.done)
			ended <- r.Name
		}()
	}

	var errs []error
	select {
	case <-ctx.Done():
		log.Info("stopping", "reason", context.Cause(ctx).Error())
	case name := <-ended:
		log.Error("a part ended by itself; stopping", "part", name)
		errs = append(errs, fmt.Errorf("%s ended by itself", name))
	}

	deadline := time.After(timeout)
	for i := len(started) - 1; i >= 0; i-- {
		r := started[i]
		begin := time.Now()
		r.cancel()
		select {
		case <-r.done:
			log.Debug("part stopped", "part", r.Name, "took", time.Since(begin))
			if !onlyCanceled(r.err) {
				errs = append(errs, fmt.Errorf("%s: %w", r.Name, r.err))
			}
		case <-deadline:
			errs = append(errs, fmt.Errorf("%s did not stop within %s", r.Name, timeout))
			for j := i - 1; j >= 0; j-- {
				earlier := started[j]
				select {
				case <-earlier.done: // the reason for stopping may be among these
					if !onlyCanceled(earlier.err) {
						errs = append(errs, fmt.Errorf("%s: %w", earlier.Name, earlier.err))
					}
				default:
					errs = append(errs, fmt.Errorf("%s was left running", earlier.Name))
				}
				earlier.cancel()
			}
			return errors.Join(errs...)
		}
	}
	return errors.Join(errs...)
}

// onlyCanceled reports whether err says nothing but that a context was
// cancelled. errors.Is would also swallow what is joined with that.
func onlyCanceled(err error) bool {
	switch e := err.(type) {
	case nil:
		return true
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if !onlyCanceled(err) {
				return false
			}
		}
		return true
	case interface{ Unwrap() error }:
		return e.Unwrap() != nil && onlyCanceled(e.Unwrap())
	}
	return err == context.Canceled
}
