//go:build race

package gateway

import "time"

// fewer: under the race detector a session that begins costs some ten times as much. It
// looks for races, which a tenth of them shows as well.
const fewer = 10

// neighbourly is what is no harm, whatever it is a multiple of: the race detector runs with the tests of all packages,
// which share the processors.
const neighbourly = 500 * time.Millisecond
