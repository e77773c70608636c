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

func TestComplete(t *testing.T) {
	for _, c := range []struct {
		name string
		t    Tally
		want bool
	}{
		{"all parse", Tally{LeastMessages: 10, LeastBytes: none, ParsedBytes: 2000}, true},
		{"one lacks a message", Tally{LeastMessages: 9, LeastBytes: none, ParsedBytes: 1800}, false},
		{"those counted have as much", Tally{LeastMessages: 10, LeastBytes: 2000, ParsedBytes: 2000}, true},
		{"merged frames", Tally{LeastMessages: 10, LeastBytes: 1990, ParsedBytes: 2000}, true},
		{"one that is counted lacks a message", Tally{LeastMessages: 10, LeastBytes: 1800, ParsedBytes: 2000}, false},
		{"nobody parses", newTally(), false},
	} {
		if got := c.t.complete(10); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
	sum := newTally()
	for _, part := range []Tally{{Connected: 2, LeastMessages: 10, ParsedBytes: 2000, LeastBytes: none}, {Connected: 3, LeastMessages: 8, ParsedBytes: 1600, LeastBytes: 1500}, {Connected: 1, LeastMessages: none, LeastBytes: 1400}} {
		sum.add(part)
	}
	if sum.Connected != 6 || sum.LeastMessages != 8 || sum.ParsedBytes != 1600 || sum.LeastBytes != 1400 {
		t.Errorf("got %+v, want 6 connected, and the least of each", sum)
	}
}
