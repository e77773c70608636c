package faults

import (
	"strings"
	"testing"
	"time"
)

// A suite that cannot fail proves nothing: the judge sees each kind of fault.
func TestJudge(t *testing.T) {
	begin := time.Now()
	l := newLedger()
	for n := uint64(1); n <= 6; n++ { // on the channels a, b, a, b, a, b
		l.accept("e-"+string('0'+rune(n)), message{n: 100 + n, channel: "ba"[n%2 : n%2+1], tried: begin})
	}
	l.perhaps([]message{{n: 108, channel: "a"}})
	got := func(seqs ...uint64) (out []receipt) {
		for i, seq := range seqs {
			out = append(out, receipt{seq: seq, n: 100 + seq, at: begin.Add(time.Duration(i) * time.Second).UnixNano()})
		}
		return out
	}
	all := []follow{following("*", 0)}
	left := follow{pattern: "*", until: 3, mayUntil: 4}
	wrong := got(1, 2, 3, 4, 5, 6)
	wrong[2].n = 999
	for _, c := range []struct {
		name                        string
		got                         []receipt
		follows                     []follow
		gaps                        []string
		lost, duplicated, reordered int
	}{
		{name: "everything", got: got(1, 2, 3, 4, 5, 6), follows: all},
		{name: "one channel", got: got(1, 3, 5), follows: []follow{following("a", 0)}},
		{name: "from the middle", got: got(4, 5, 6), follows: []follow{following("*", 3)}},
		{name: "nothing followed, nothing got"},
		{name: "two subscriptions cover one message", got: got(1, 2, 3, 4, 5, 6), follows: []follow{following("a", 0),
			following(">", 0)}},
		{name: "one more on the way out", got: got(1, 2, 3, 4), follows: []follow{left}},
		{name: "none more on the way out", got: got(1, 2, 3), follows: []follow{left}},
		{name: "lost in the middle", got: got(1, 2, 4, 5, 6), follows: all, lost: 1},
		{name: "lost at the end", got: got(1, 2, 3, 4, 5), follows: all, lost: 1},
		{name: "lost altogether", follows: all, lost: 6},
		{name: "a gap frame", got: got(1, 2, 3, 4, 5, 6), follows: all, gaps: []string{"gap"}, lost: 1},
		{name: "another message's content", got: wrong, follows: all, lost: 1},
		{name: "duplicated", got: got(1, 2, 2, 3, 4, 5, 6), follows: all, duplicated: 1},
		{name: "repeated from the beginning", got: got(1, 2, 3, 1, 2, 3, 4, 5, 6), follows: all, duplicated: 3},
		{name: "stored, and nobody was told", got: got(1, 2, 3, 4, 5, 6, 7), follows: all, duplicated: 1},
		{name: "unsure, and there", got: got(1, 2, 3, 4, 5, 6, 8), follows: all},
		{name: "unsure, and there twice", got: append(got(1, 2, 3, 4, 5, 6, 8), receipt{seq: 9, n: 108}), follows: all,
			duplicated: 1},
		{name: "unsure, and not followed", got: got(2, 4, 6, 8), follows: []follow{following("b", 0)}, duplicated: 1},
		{name: "unsure, and not in its place", got: got(1, 2, 3, 4, 5, 8, 6), follows: all, reordered: 1},
		{name: "not followed", got: got(1, 2, 3, 5), follows: []follow{following("a", 0)}, duplicated: 1},
		{name: "two more after the way out", got: got(1, 2, 3, 4, 5), follows: []follow{left}, duplicated: 1},
		{name: "reordered", got: got(1, 3, 2, 4, 5, 6), follows: all, reordered: 1},
		{name: "reordered over a reconnect", got: got(4, 5, 6, 1, 2, 3), follows: all, reordered: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := l.judge("client", c.got, c.follows, c.gaps)
			if v.lost != c.lost || v.duplicated != c.duplicated || v.reordered != c.reordered {
				t.Errorf("got %d lost, %d duplicated, %d reordered, want %d, %d, %d\n%s",
					v.lost, v.duplicated, v.reordered, c.lost, c.duplicated, c.reordered,
					strings.Join(v.examples, "\n"))
			}
			if want := c.lost+c.duplicated+c.reordered == 0; v.perfect() != want {
				t.Errorf("perfect: got %v, want %v", v.perfect(), want)
			}
			if v.received != len(c.got) {
				t.Errorf("received: got %d, want %d", v.received, len(c.got))
			}
		})
	}
	if v := l.judge("client", got(1, 2, 3, 4, 5, 6), all, nil); v.stall != 5*time.Second {
		t.Errorf("stall: got %s, want 5s", v.stall)
	}
}

// What a publisher is told can be wrong by itself.
func TestLedgerFaults(t *testing.T) {
	l := newLedger()
	l.accept("e-1", message{n: 1})
	l.accept("f-5", message{n: 5}) // another epoch, behind the first
	for _, c := range []struct {
		name, id string
		n        uint64
		want     string
	}{
		{"the same id twice", "e-1", 2, "the same id"},
		{"in the middle of another epoch", "e-6", 3, "epoch f"},
		{"no id", "", 4, "invalid id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(l.faults)
			l.accept(c.id, message{n: c.n})
			if len(l.faults) != before+1 || !strings.Contains(l.faults[before], c.want) {
				t.Errorf("got %q, want one more with %q", l.faults, c.want)
			}
		})
	}
}
