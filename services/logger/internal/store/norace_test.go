//go:build !race

package store

// fewer divides the number of rows that tests write.
const fewer = 1
