//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// Frames are found wherever the stream of bytes is cut.
func TestFrames(t *testing.T) {
	var stream []byte
	var want []int
	for _, n := range []int{0, 1, 125, 126, 300, 65535, 65536} {
		stream = append(stream, textFrame(bytes.Repeat([]byte("x"), n))...)
		want = append(want, n)
	}
	for _, cut := range []int{1, 2, 3, 7, 1000, len(stream)} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			var w client
			var got []int
			for part := range slices.Chunk(stream, cut) {
				w.frames(part, func(op ws.OpCode, payload []byte) {
					if op != ws.OpText {
						t.Errorf("got opcode %d, want %d", op, ws.OpText)
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
	for _, part := range []Tally{{Connected: 2, Messages: 21, Least: 10}, {Connected: 3, Messages: 24, Least: 8,
		Dead: 1}} {
		part.Latency = new(histogram)
		sum.add(part)
	}
	if sum.Connected != 5 || sum.Dead != 1 || sum.Messages != 45 || sum.Least != 8 {
		t.Errorf("got %+v, want 5 connected, 1 dead, 45 messages, 8 at least", sum)
	}
}

func TestHistogram(t *testing.T) {
	var h, low, high histogram
	if got := h.percentile(0.5); got != 0 {
		t.Errorf("of nothing: got %g, want 0", got)
	}
	for _, ms := range rand.Perm(1000) {
		part := &low
		if ms >= 500 {
			part = &high
		}
		part.add(time.Duration(ms+1) * time.Millisecond)
	}
	sum := Tally{Latency: &h}
	sum.add(Tally{Latency: &low})
	sum.add(Tally{Latency: &high})
	for p, want := range map[float64]float64{0.5: 0.5, 0.99: 0.99, 1: 1} {
		if got := h.percentile(p); got < want*0.99 || got > want*1.06 {
			t.Errorf("percentile %g: got %g, want %g to 5 %%", p, got, want)
		}
	}
	h.add(-time.Second) // clocks that disagree
	h.add(1e6 * time.Hour)
}
