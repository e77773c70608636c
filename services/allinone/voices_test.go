package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What several services of the process log is written once; what one of them logs
// again is written again.
func TestVoices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		all := &voices{}
		to := slog.New(slog.NewTextHandler(&out, nil))
		ingest, logger, gateway := all.of("ingest", to), all.of("logger", to).With("part", "watch"),
			all.of("gateway", to)
		ingest = ingest.With("part", "watch")
		gateway = gateway.With("part", "watch")
		for _, step := range []struct {
			name string
			log  func()
			want int // lines with "lost" so far
		}{
			{"the first", func() { ingest.Warn("lost", "err", "EOF") }, 1},
			{"the same of another", func() { logger.Warn("lost", "err", "EOF") }, 1},
			{"of another level", func() { logger.Info("lost", "err", "EOF") }, 2},
			{"with another fact", func() { logger.Warn("lost", "err", "timeout") }, 3},
			{"of another part", func() { all.of("logger", to).Warn("lost", "err", "EOF") }, 4},
			{"of a group", func() { all.of("logger", to).WithGroup("watch").Warn("lost", "err", "EOF") }, 5},
			{"again", func() { ingest.Warn("lost", "err", "EOF") }, 6},
			{"again of the other", func() { logger.Warn("lost", "err", "EOF") }, 6},
			{"again of a third", func() { gateway.Warn("lost", "err", "EOF") }, 6},
			{"later", func() { time.Sleep(saidFor); logger.Warn("lost", "err", "EOF") }, 7},
			{"of clients", func() {
				ingest.Warn("lost", "err", "EOF", "conn", "1")
				logger.Warn("lost", "err", "EOF", "conn", "1")
			}, 9},
		} {
			step.log()
			if got := strings.Count(out.String(), "msg=lost"); got != step.want {
				t.Errorf("%s: %d lines, want %d:\n%s", step.name, got, step.want, out.String())
			}
		}
		for i := range 10 * mostSaid {
			ingest.Warn("many", "n", i)
		}
		if len(all.said) > mostSaid {
			t.Errorf("%d lines are remembered, want %d at most", len(all.said), mostSaid)
		}
	})
}

// Who asked for everything gets everything.
func TestVoicesWithDebug(t *testing.T) {
	var out bytes.Buffer
	all := &voices{}
	to := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	all.of("ingest", to).Warn("lost")
	all.of("logger", to).Warn("lost")
	if got := strings.Count(out.String(), "msg=lost"); got != 2 {
		t.Errorf("%d lines, want 2:\n%s", got, out.String())
	}
}
