// Package retry repeats what failed until it succeeds, and logs a reason once, not at every try.
//
// A row is a sequence of errors without a success between them. In a row each reason is passed to Log
// once: NATS may be away first, and then too old. A row has a few reasons at most, so that an error whose text
// changes at each try (a port number) does not fill the log.
package retry

import (
	"context"
	"slices"
	"time"
)

// reasonsOfARow bounds how many errors of one row are logged.
const reasonsOfARow = 4

// Policy says how to try again.
type Policy struct {
	Pause time.Duration   // after each try
	Most  time.Duration   // Until doubles the pause from error to error, up to Most; 0: every pause is the same
	Log   func(err error) // logs the error, once for each reason of a row; nil: nothing is logged
	Where func() bool     // an error is logged only while it returns true; nil: always
	Every func(err error) // is called with each error, before Log; nil: nothing is called
}

// Until calls try until it returns nil, with a pause after each error. It returns ctx's error if ctx ends first, and
// calls nothing after that.
func (p Policy) Until(ctx context.Context, try func(context.Context) error) error {
	var row Row
	for pause := p.Pause; ; pause = max(p.Pause, min(2*pause, p.Most)) {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.failed(&row, err)
		if err := Pause(ctx, pause); err != nil {
			return err
		}
	}
}

// Forever calls try until ctx ends, with a pause after each call, whether it failed or not.
func (p Policy) Forever(ctx context.Context, try func(context.Context) error) {
	var row Row
	for {
		err := try(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			row.End()
		default:
			p.failed(&row, err)
		}
		if Pause(ctx, p.Pause) != nil {
			return
		}
	}
}

func (p Policy) failed(row *Row, err error) {
	if p.Every != nil {
		p.Every(err)
	}
	if p.Log != nil && (p.Where == nil || p.Where()) && row.New(err) {
		p.Log(err)
	}
}

// Row is the reasons of one row, for a loop that is neither Until nor Forever. The zero value is ready. It is not
// safe for concurrent use.
type Row struct{ reasons []string }

// New adds the error's text, and reports whether it is to be logged: the row does not have it yet.
func (r *Row) New(err error) bool {
	if len(r.reasons) == reasonsOfARow || slices.Contains(r.reasons, err.Error()) {
		return false
	}
	r.reasons = append(r.reasons, err.Error())
	return true
}

// End ends the row at a success, and reports whether anything of it was to be logged.
func (r *Row) End() bool {
	failed := len(r.reasons) > 0
	r.reasons = nil
	return failed
}

// Pause returns after d, or earlier with ctx's error when ctx ends.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
