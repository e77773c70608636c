package httpx

import (
	"context"
	"errors"
	"testing"
	"time"
)

// One key leaves places for others, and a freed place goes to who waits.
func TestPlaces(t *testing.T) {
	p := NewPlaces(3, 2)
	take := func(key string, want error) func() {
		t.Helper()
		free, err := p.Acquire(key)
		if !errors.Is(err, want) {
			t.Fatalf("%s: got %v, want %v", key, err, want)
		}
		return free
	}
	a1, a2 := take("a", nil), take("a", nil)
	take("a", ErrKeyHasPlaces)
	b := take("b", nil)
	take("c", ErrNoPlace)
	a1()
	c := take("c", nil)

	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := p.Wait(short, "d"); !errors.Is(err, ErrNoPlace) {
		t.Errorf("waiting in vain: got %v", err)
	}
	got := make(chan error, 1)
	go func() { // ends when it has a place; waited for below
		free, err := p.Wait(t.Context(), "d")
		if err == nil {
			free()
		}
		got <- err
	}()
	a2()
	if err := <-got; err != nil {
		t.Errorf("waiting: got %v", err)
	}
	b()
	c()
	if p.taken != 0 || len(p.by) != 0 {
		t.Errorf("at the end %d are taken, by %v", p.taken, p.by)
	}
}
