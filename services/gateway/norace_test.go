//go:build !race

package gateway

// fewer divides the number of clients that a test has.
const fewer = 1
