package auth

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// watched is a file that is read again when it changes. Who needs its content
// calls look first. Safe for concurrent use.
type watched struct {
	path string
	what string // in the log
	log  *slog.Logger
	load func(b []byte) error // applies new content, or returns why not and keeps the old

	mu      sync.Mutex
	stamp   string    // guarded by mu; of what load was given last
	checked time.Time // guarded by mu
}

// recheckEvery bounds how often a file is looked at.
const recheckEvery = time.Second

// first reads the file.
func (w *watched) first() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stamp, w.checked = stampOf(w.path), time.Now() // before reading: what changes in between is read again
	b, err := os.ReadFile(w.path)
	if err != nil {
		return err
	}
	if err := w.load(b); err != nil {
		return fmt.Errorf("%s: %w", w.path, err)
	}
	return nil
}

// look reads the file again if it has changed. Content that cannot be used is
// reported once, and what was read before stays.
func (w *watched) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.checked) < recheckEvery {
		return
	}
	w.checked = time.Now()
	stamp := stampOf(w.path)
	if stamp == w.stamp {
		return
	}
	w.stamp = stamp
	b, err := os.ReadFile(w.path)
	if err == nil {
		err = w.load(b)
	}
	if err != nil {
		w.log.Warn(w.what+" changed and cannot be used; what was read before stays", "file", w.path, "err", err)
		return
	}
	w.log.Info(w.what+" read again", "file", w.path)
}

// stampOf changes when the file does; empty: it is not there.
func stampOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size())
}
