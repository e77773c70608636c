package natsx_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/natstest"
	"github.com/herald-push/herald/services/internal/natsx"
)

func TestNext(t *testing.T) {
	nc, js := stream(t, "a", "orders.eu", "orders.us", "a")
	for range 2 { // 5 and 6
		if _, err := js.Publish(t.Context(), "herald.msg.foreign", []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	store(t, js, "foreign") // 7
	s, err := js.Stream(t.Context(), proto.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pattern    string
		from, want uint64
	}{
		{"a", 0, 1}, {"a", 1, 1}, {"a", 2, 4}, {"a", 4, 4}, {"a", 5, 0},
		{"orders.*", 0, 2}, {"orders.*", 3, 0}, // 3 was deleted
		{">", 3, 4}, {">", 5, 7}, {">", 8, 0}, {">", 1 << 60, 0},
		{"foreign", 0, 7}, {"nothing", 0, 0},
	} {
		t.Run(fmt.Sprint(c.pattern, " from ", c.from), func(t *testing.T) {
			if got, err := natsx.Next(t.Context(), nc, c.pattern, c.from); err != nil || got != c.want {
				t.Errorf("got %d, %v, want %d", got, err, c.want)
			}
		})
	}
}

func TestNextWithoutStream(t *testing.T) {
	nc := natstest.Start(t).Connect()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	begin := time.Now()
	if got, err := natsx.Next(ctx, nc, ">", 1); err == nil || time.Since(begin) > time.Second {
		t.Errorf("got %d, %v after %s", got, err, time.Since(begin))
	}
}
