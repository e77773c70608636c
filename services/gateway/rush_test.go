package gateway

import (
	"slices"
	"testing"
	"time"
)

func TestRush(t *testing.T) {
	for _, c := range []struct {
		name string
		came []int // newcomers of each second
		want []int // what over says then
	}{
		{"nobody", []int{0, 0, 0}, []int{0, 0, 0}},
		{"a trickle is none, however long", slices.Repeat([]int{rushPace - 1}, 30), make([]int, 30)},
		{"a small one is not worth it", []int{rushClients - 1, 0, 0, 0}, []int{0, 0, 0, 0}},
		{"one", []int{rushClients, 0, 0, 0, 0}, []int{0, 0, rushClients, 0, 0}},
		{"a trickle follows", []int{rushClients, 5, 5, 5}, []int{0, 0, rushClients, 0}},
		{"it comes in waves", []int{400, 0, 400, 300, 0, 0, 0}, []int{0, 0, 0, 0, 0, 1100, 0}},
		{"two", []int{rushClients, 0, 0, 2 * rushClients, 0, 0}, []int{0, 0, rushClients, 0, 0, 2 * rushClients}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now, opened, r := time.Unix(1e9, 0), 50, rush{last: 50}
			for i, n := range c.came {
				now, opened = now.Add(time.Second), opened+n
				if got := r.over(now, opened); got != c.want[i] {
					t.Errorf("second %d: got %d, want %d", i, got, c.want[i])
				}
			}
		})
	}
}
