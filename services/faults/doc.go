// Package faults proves that Herald's promises hold under fault: its tests
// run the split form as real processes, kill them with signal 9, cut their
// networks and fill their disks while messages flow, and then compare what
// every client received, and what the log has, with what was accepted.
//
// A message counts as published when ingest answered 2xx. Each must be with
// every client that followed its channel, once, in stream order; and in the
// log, once. Nothing else may be there.
//
// The tests run in a short form unless -faults.long is given; make faults
// does, and writes the table of results into docs/explanation/faults.md.
package faults
