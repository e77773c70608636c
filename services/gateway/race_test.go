//go:build race

package gateway

// fewer: under the race detector a session that begins costs some ten times as much. It
// looks for races, which a tenth of them shows as well.
const fewer = 10
