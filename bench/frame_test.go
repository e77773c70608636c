//go:build linux

package main

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// Frames are found wherever the stream of bytes is cut.
func TestFrames(t *testing.T) {
	var stream []byte
	var want []int
	for _, n := range []int{0, 1, 125, 126, 300, 65535, 65536} {
		stream = append(stream, frame(opText, false, bytes.Repeat([]byte("x"), n))...)
		want = append(want, n)
	}
	for _, cut := range []int{1, 2, 3, 7, 1000, len(stream)} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			var w client
			var got []int
			for part := range slices.Chunk(stream, cut) {
				w.frames(part, func(opcode byte, payload []byte) {
					if opcode != opText {
						t.Errorf("got opcode %d, want %d", opcode, opText)
					}
					got = append(got, len(payload))
				})
			}
			if !slices.Equal(got, want) {
				t.Errorf("got frames of %d bytes, want %d", got, want)
			}
		})
	}
}

// A server may put several messages into one frame.
func TestEachStamp(t *testing.T) {
	var got []int64
	n := eachStamp([]byte(`{"a":{"ts":12,"d":""}}`+"\n"+`"{\"ts\":345}"`), func(ns int64) { got = append(got, ns) })
	if want := []int64{12, 345}; n != 2 || !slices.Equal(got, want) {
		t.Errorf("got %d stamps %v, want %v", n, got, want)
	}
	if b := data(1234567); len(b) != dataBytes {
		t.Errorf("got %d bytes of data, want %d: %s", len(b), dataBytes, b)
	}
}

// Tallies of several processes add up; the least is that of the client that received least.
func TestTally(t *testing.T) {
	sum := newTally()
	for _, part := range []Tally{{Connected: 2, Messages: 21, Least: 10}, {Connected: 3, Messages: 24, Least: 8, Dead: 1}} {
		part.Latency = new(histogram)
		sum.add(part)
	}
	if sum.Connected != 5 || sum.Dead != 1 || sum.Messages != 45 || sum.Least != 8 {
		t.Errorf("got %+v, want 5 connected, 1 dead, 45 messages, 8 at least", sum)
	}
}
