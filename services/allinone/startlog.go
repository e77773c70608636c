package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// startLog is the log while Herald starts. Five services in one process would
// say five times that they have begun, and three times that NATS is away; a
// person wants one line. So until ready is called, lines of level Info are
// left out, except those about a client, and each warning is written once. With
// debug everything is. A start that takes long ends it, too.
type startLog struct {
	slog.Handler
	*startState
}

// startState is what the handlers that are derived from one share.
type startState struct {
	over atomic.Bool
	mu   sync.Mutex
	said map[string]bool // guarded by mu; nil once it is over
}

// newStartLog puts a log of a starting Herald before log; ready ends the start.
func newStartLog(log *slog.Logger) (starting *slog.Logger, ready func()) {
	state := &startState{said: map[string]bool{}}
	end := func() {
		state.over.Store(true)
		state.mu.Lock()
		defer state.mu.Unlock()
		state.said = nil
	}
	late := time.AfterFunc(startTakes, end)
	return slog.New(startLog{log.Handler(), state}), func() { late.Stop(); end() }
}

// startTakes is longer than a start that goes well.
const startTakes = 5 * time.Second

// Handle leaves out what startLog says.
func (l startLog) Handle(ctx context.Context, r slog.Record) error {
	if !l.over.Load() && !l.Enabled(ctx, slog.LevelDebug) && !l.first(r) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

// first reports whether a line is about a client, or is a warning at least
// that was not written yet.
func (l startLog) first(r slog.Record) bool {
	key, client := []string{r.Message}, false
	r.Attrs(func(a slog.Attr) bool {
		key, client = append(key, a.String()), client || a.Key == "conn"
		return true
	})
	if r.Level < slog.LevelWarn {
		return client
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said == nil {
		return true
	}
	line := strings.Join(key, "\n")
	was := l.said[line]
	l.said[line] = true
	return !was
}

// WithAttrs and WithGroup keep the handler around what they derive.
func (l startLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return startLog{l.Handler.WithAttrs(attrs), l.startState}
}

func (l startLog) WithGroup(name string) slog.Handler {
	return startLog{l.Handler.WithGroup(name), l.startState}
}
