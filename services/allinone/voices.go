package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// voices is the log of the services of one process. Several of them watch the same
// key or lose the same NATS, and each logs that; a person who reads one log wants
// one line. So of equal lines of level Info and above that different services write
// within saidFor, the first is written. A service that repeats its own line is
// written again: it happened again. With debug everything is written.
type voices struct {
	mu   sync.Mutex
	said map[string]*saying // guarded by mu; by the text of the line
}

// saying is one line, and who has written it.
type saying struct {
	at time.Time
	by map[string]bool // names of services
}

const (
	// saidFor is longer than connections of one process need, one after the other, to
	// notice that NATS is back.
	saidFor = 10 * time.Second
	// mostSaid bounds the lines that are remembered.
	mostSaid = 256
)

// of is the log of one service.
func (v *voices) of(service string, log *slog.Logger) *slog.Logger {
	return slog.New(voice{Handler: log.Handler(), voices: v, service: service})
}

// again reports whether another service wrote this line a moment ago, and this one
// has not since.
func (v *voices) again(line, service string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.said[line]; s != nil && now.Sub(s.at) < saidFor && !s.by[service] {
		s.by[service] = true
		return true
	}
	if len(v.said) >= mostSaid {
		for old, s := range v.said {
			if now.Sub(s.at) >= saidFor {
				delete(v.said, old)
			}
		}
	}
	if v.said == nil || len(v.said) >= mostSaid {
		v.said = map[string]*saying{}
	}
	v.said[line] = &saying{at: now, by: map[string]bool{service: true}}
	return false
}

// voice is the handler of one service.
type voice struct {
	slog.Handler
	*voices
	service string
	context string // the attributes and groups that WithAttrs and WithGroup added
}

// Handle writes a line, unless another service wrote the same one a moment ago (see voices). It does not look
// for lines about one client, since only one service writes these, and many of them.
func (l voice) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo && !l.Enabled(ctx, slog.LevelDebug) {
		line, client := []string{l.context, r.Level.String(), r.Message}, false
		r.Attrs(func(a slog.Attr) bool {
			line, client = append(line, a.String()), client || a.Key == "conn"
			return true
		})
		if !client && l.again(strings.Join(line, "\n"), l.service, r.Time) {
			return nil
		}
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs and WithGroup keep the handler around what they derive.
func (l voice) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		l.context += a.String() + "\n"
	}
	l.Handler = l.Handler.WithAttrs(attrs)
	return l
}

func (l voice) WithGroup(name string) slog.Handler {
	l.context += name + ".\n"
	l.Handler = l.Handler.WithGroup(name)
	return l
}
