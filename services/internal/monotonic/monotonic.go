// Package monotonic measures elapsed time in a form that fits into an
// atomic.Int64. Its clock is the one that nobody sets: Unix nanoseconds would
// count a step of the wall clock as time that has passed, and a step back as
// time that has yet to come.
package monotonic

import "time"

// origin is a day before the process began, so that 0, the value of a field
// that was never set, is longer ago than anything that is waited for.
var origin = time.Now().Add(-24 * time.Hour)

// Now is nanoseconds since origin.
func Now() int64 { return int64(time.Since(origin)) }

// Since is how long ago Now returned t.
func Since(t int64) time.Duration { return time.Duration(Now() - t) }
