package httpx

import (
	"context"
	"errors"
	"sync"
)

// Places bounds how many requests of a kind run at once, in all and with one
// key, so that one key cannot keep all others out. Safe for concurrent use.
type Places struct {
	all, each int

	mu    sync.Mutex
	taken int            // guarded by mu
	by    map[string]int // guarded by mu; places taken by key, no zeros
	freed chan struct{}  // guarded by mu; closed and replaced when a place is freed
}

// Errors of Places.
var (
	// ErrNoPlace: as many requests run as may run at once.
	ErrNoPlace = errors.New("no place is free")
	// ErrKeyHasPlaces: the key has as many places as one key may have.
	ErrKeyHasPlaces = errors.New("the key has all the places that it may have")
)

// NewPlaces has so many places in all, and so many for each key.
func NewPlaces(all, each int) *Places {
	return &Places{all: all, each: each, by: map[string]int{}, freed: make(chan struct{})}
}

// Acquire acquires a place if one is free. The caller calls free once.
func (p *Places) Acquire(key string) (free func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.by[key] >= p.each:
		return nil, ErrKeyHasPlaces
	case p.taken >= p.all:
		return nil, ErrNoPlace
	}
	p.taken++
	p.by[key]++
	return func() { p.free(key) }, nil
}

// Wait acquires a place, and waits for it until ctx ends. The error is then why
// there was none.
func (p *Places) Wait(ctx context.Context, key string) (free func(), err error) {
	for {
		p.mu.Lock()
		freed := p.freed
		p.mu.Unlock()
		if free, err = p.Acquire(key); err == nil {
			return free, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-freed:
		}
	}
}

func (p *Places) free(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.by[key]--; p.by[key] == 0 {
		delete(p.by, key)
	}
	close(p.freed)
	p.freed = make(chan struct{})
}
