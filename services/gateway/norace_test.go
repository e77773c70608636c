//go:build !race

package gateway

import "time"

// fewer divides the number of clients that a test has.
const fewer = 1

// neighbourly is what is no harm, whatever it is a multiple of: a processor
// that others share.
const neighbourly = 50 * time.Millisecond
