package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The builder makes what a map and a sort would, one segment after the other.
func TestBuilderAgainstAMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var b builder
	for _, c := range []struct {
		name  string
		rows  int
		words int // different ones
		per   int // of a row
	}{
		{"one row", 1, 10, 3},
		{"few words", 300, 20, 10},
		{"more terms than the table has at first", 3000, 1 << 30, 10},
		{"few again", 300, 20, 10},
		{"more than is kept", 2000, 1 << 30, 200},
		{"no words", 5, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := rng.Uint64N(1000)
			b.reset(first)
			want := map[string][]uint64{}
			seq := first
			for range c.rows {
				var text []string
				for range c.per {
					text = append(text, fmt.Sprintf("w%d", rng.IntN(c.words)))
				}
				if rng.IntN(10) == 0 {
					text = append(text, strings.Repeat("long", 20)+fmt.Sprint(rng.IntN(c.words)))
				}
				r := row(epochA, seq, fmt.Sprintf("c%d", rng.IntN(9)), strings.Join(text, " "))
				b.add(&r)
				note := func(kind byte, text string) {
					k := string(term(kind, []byte(text)))
					if s := want[k]; len(s) == 0 || s[len(s)-1] != seq {
						want[k] = append(s, seq)
					}
				}
				note(termChannel, r.Channel)
				note(termEvent, r.Event)
				note(termSender, r.Sender)
				for _, w := range text {
					note(termWord, w)
				}
				seq += 1 + rng.Uint64N(300)
			}
			var before []byte
			got := 0
			for _, block := range b.blocks() {
				head := true
				err := readBlock(block.entries, func(key, posting []byte) error {
					if head && !bytes.Equal(key, block.first) || bytes.Compare(before, key) >= 0 {
						t.Errorf("term %q after %q in a block that begins with %q", key, before, block.first)
					}
					head, before = false, bytes.Clone(key)
					seqs, err := appendSeqs(nil, first, seq, posting)
					if !slices.Equal(seqs, want[string(key)]) {
						t.Errorf("%q: got %v, want %v", key, seqs, want[string(key)])
					}
					got++
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				if len(block.entries) > 2*blockBytes+c.rows*binary.MaxVarintLen64 {
					t.Errorf("a block of %d bytes", len(block.entries))
				}
			}
			if got != len(want) {
				t.Errorf("got %d terms, want %d", got, len(want))
			}
		})
	}
}

func BenchmarkBuilder(b *testing.B) {
	all := rows(epochA, 1, segmentRows)
	var bl builder
	b.ReportAllocs()
	for b.Loop() {
		bl.reset(1)
		for i := range all {
			bl.add(&all[i])
		}
		bl.blocks()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/segmentRows, "ns/row")
}
