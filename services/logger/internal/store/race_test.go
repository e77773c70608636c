//go:build race

package store

// fewer: SQLite is Go code here, and some twenty times slower under the race
// detector. It looks for races, which a tenth of the rows shows as well.
const fewer = 10
